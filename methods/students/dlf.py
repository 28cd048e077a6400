"""DLF, Gaussian distillation by a deep latent factor model (Park et al. 2025, arXiv 2510.19290).

Function t of the teacher has the logits z_t(x) = m(x) + Φ(x) w_t + σ(x) ε, with one w_t ~ N(0, I) for all inputs: a
Gaussian process, which keeps what a function says of one input together with what it says of another. The authors fit
it by expectation-maximization; the loss here is the likelihood that this maximizes, of a batch's inputs together.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import LowRankMultivariateNormal

from configs.schema import Count, dataclass
from methods.interface import HIDDEN, Method, Targets
from methods.students.diagonal_gaussian import SMALLEST, centred
from uncertainty.gaussian import LogitGaussian


@dataclass
class DLF(Method):
    """rank: R, the number of factors w. hidden: units in each hidden layer of the perceptron that gives Φ and σ."""

    rank: Count = 4
    hidden: Count = HIDDEN

    needs_samples = True
    needs_functions = True
    loss_name = "−log likelihood, nats"

    def perceptron_outputs(self, classes: int) -> int:
        """Φ, and σ of each class."""
        return classes * (self.rank + 1)

    def distribution(self, logits: Tensor, outputs: Tensor) -> LogitGaussian:
        """N(m, Φ Φᵀ + diag σ²) of one input, with centred m and columns of Φ."""
        classes = logits.shape[-1]
        scale, factor = outputs.tensor_split((classes,), 1)
        factor = centred(factor.unflatten(1, (self.rank, classes))).mT
        return LogitGaussian(centred(logits), factor, F.softplus(scale) + SMALLEST)

    def loss(self, student: LogitGaussian, targets: Targets, network: nn.Module) -> Tensor:
        """−1/(TB) Σ_t log N(z_t; m, Φ Φᵀ + (C−1)/C diag σ²) of the teacher's centred logits z_t, with z_t, m, Φ and σ
        of all B inputs of the batch stacked. To centre σ ε takes a C-th of its variance."""
        z = centred(targets.log_probs.float()).movedim(1, 0).flatten(1)
        variance = (1 - 1 / student.loc.shape[-1]) * student.scale.square()
        with torch.autocast(z.device.type, enabled=False):  # a difference of two large numbers
            gaussian = LowRankMultivariateNormal(
                student.loc.flatten(), student.factor.flatten(0, 1), variance.flatten()
            )
            return -gaussian.log_prob(z).mean() / len(student.loc)
