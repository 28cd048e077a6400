"""EnD, ensemble distillation (Hinton, Vinyals & Dean 2015): the student learns the samples' mean, not their spread."""

import torch.nn.functional as F
from torch import Tensor, nn

from configs.schema import Positive, dataclass
from methods.interface import Method, Targets
from uncertainty.delta import Delta


@dataclass
class EnD(Method):
    """temperature: T, which softens the teacher's samples and the student's probabilities."""

    temperature: Positive = 1.0

    ood_score = "predictive_entropy"

    @property
    def needs_samples(self) -> bool:
        """Only the softened samples' mean is none of the statistics."""
        return self.temperature != 1

    def distribution(self, logits: Tensor, outputs: Tensor) -> Delta:
        """p = softmax(z)."""
        return Delta(logits)

    def loss(self, student: Delta, targets: Targets, network: nn.Module) -> Tensor:
        """T² KL(1/M Σ_m softmax(z_m / T) ‖ softmax(z / T)); T² keeps the size of the gradient (section 2)."""
        t = self.temperature
        mean = targets.mean if t == 1 else (targets.log_probs.float() / t).softmax(-1).mean(1)
        return t**2 * F.kl_div((student.logits / t).log_softmax(-1), mean, reduction="batchmean")
