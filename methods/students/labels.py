"""A control, which does not learn from the teacher: the student's network, images and training, with the labels."""

import torch.nn.functional as F
from torch import Tensor, nn

from configs.schema import dataclass
from methods.interface import Method, Targets
from uncertainty.delta import Delta


@dataclass
class Labels(Method):
    """There are no options. A view that mixes two images has a label that mixes theirs."""

    needs_labels = True
    ood_score = "predictive_entropy"
    loss_name = "cross-entropy, nats"

    def distribution(self, logits: Tensor, outputs: Tensor) -> Delta:
        """p = softmax(z)."""
        return Delta(logits)

    def loss(self, student: Delta, targets: Targets, network: nn.Module) -> Tensor:
        """The mean of −Σ_c y_c log p_c."""
        return F.cross_entropy(student.logits, targets.labels)
