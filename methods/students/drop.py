"""The "Drop" of Hydra+'s authors (Ferianc & Rodrigues 2022): a network whose last layer has dropout, in use too."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.schema import NonNegative, Positive, Rate, Several, dataclass
from methods.interface import Method, Targets
from methods.students.hydra import HeadsAsSamples
from methods.students.hydra_plus import correctness, individuality
from uncertainty.samples import Samples


class DropLinear(nn.Linear):
    """Dropout, then a linear layer: [N, F] → [N, 1, G] in training, with a mask for each input; else [N, M, G], with
    the same M masks."""

    def __init__(self, linear: nn.Linear, rate: float, heads: int):
        super().__init__(linear.in_features, linear.out_features)
        self.rate = rate
        self.register_buffer("masks", F.dropout(torch.ones(heads, linear.in_features), rate))

    def forward(self, x: Tensor) -> Tensor:
        masked = F.dropout(x, self.rate).unsqueeze(1) if self.training else x.unsqueeze(1) * self.masks
        return super().forward(masked)


@dataclass
class OneDraw(Method):
    """The loss of `Drop` and `Gauss`, which draw one sample of each input in a training step.

    correctness, individuality, temperature: its weights and its temperature; the authors' for CIFAR-10.
    """

    correctness: NonNegative = 0.05
    individuality: NonNegative = 0.95
    temperature: Positive = 8.0

    needs_samples = True
    own_last_layer = True

    @property
    def needs_labels(self) -> bool:
        """For the correctness."""
        return self.correctness > 0

    def loss(self, student: Samples, targets: Targets, network: nn.Module) -> Tensor:
        """(1 − α) CE(labels; q) + α T² 1/M Σ_m KL(p_m ‖ q_m), both softened by T in the second part (authors' code)."""
        q, p = student.log_probs, targets.log_probs.float()
        labelled = self.correctness * correctness(q, targets.labels)
        return labelled + self.individuality * individuality(q, p, self.temperature)


@dataclass
class Drop(OneDraw, HeadsAsSamples):
    """rate: of the dropout. draws: the masks that a prediction takes, the same ones for every image."""

    rate: Rate = 0.5
    draws: Several = 50

    def last_layer(self, linear: nn.Linear) -> DropLinear:
        """A layer with dropout."""
        return DropLinear(linear, self.rate, self.draws)
