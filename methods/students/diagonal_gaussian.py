"""A diagonal Gaussian over the logits, fitted by likelihood: the simplest alternative to a Dirichlet."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.schema import Count, dataclass
from methods.interface import HIDDEN, Method, Targets
from uncertainty.gaussian import LogitGaussian

SMALLEST = 1e-3  # standard deviation of a logit


def centred(logits: Tensor) -> Tensor:
    """The logits shifted to Σ_c z_c = 0, which does not change their softmax."""
    return logits - logits.mean(-1, keepdim=True)


@dataclass
class DiagonalGaussian(Method):
    """hidden: units in each hidden layer of the perceptron that gives the standard deviations."""

    hidden: Count = HIDDEN

    needs_samples = True
    loss_name = "−log likelihood, nats"

    def perceptron_outputs(self, classes: int) -> int:
        """A standard deviation for each class."""
        return classes

    def distribution(self, logits: Tensor, outputs: Tensor) -> LogitGaussian:
        """N(z, diag(softplus(h)²)), with centred logits z and the perceptron's outputs h."""
        return LogitGaussian(centred(logits), torch.diag_embed(F.softplus(outputs) + SMALLEST))

    def loss(self, student: LogitGaussian, targets: Targets, network: nn.Module) -> Tensor:
        """−1/T Σ_t log p(p_t), the density of the teacher's probabilities (`LogitGaussian.log_density`)."""
        return -student.log_density(targets.log_probs).mean()
