"""The "Gauss" of Hydra+'s authors (Ferianc & Rodrigues 2022): a network whose last layer's weights are Gaussians."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.schema import NonNegative, dataclass
from methods.interface import Targets
from methods.students.drop import OneDraw
from uncertainty.gaussian import LogitGaussian

SMALLEST = 1e-8  # variance of a logit
START = -10.0  # log σ² of each weight at first


class GaussLinear(nn.Linear):
    """A linear layer with weights and biases N(w, σ²): [N, F] → means and variances of its outputs [N, 2, G]."""

    def __init__(self, linear: nn.Linear):
        super().__init__(linear.in_features, linear.out_features)
        self.log_variance = nn.Parameter(torch.full_like(self.weight, START))
        self.bias_log_variance = nn.Parameter(torch.full_like(self.bias, START))

    def forward(self, x: Tensor) -> Tensor:
        variance = F.linear(x.square(), self.log_variance.exp(), self.bias_log_variance.exp())
        return torch.stack([super().forward(x), variance], 1)

    def divergence(self) -> Tensor:
        """KL of the weights' distribution to N(0, 1), Σ ½ (σ² + w² − 1 − log σ²)."""
        pairs = ((self.weight, self.log_variance), (self.bias, self.bias_log_variance))
        return sum((s.exp() + w.square() - 1 - s).sum() for w, s in pairs) / 2


@dataclass
class Gauss(OneDraw):
    """prior: the weight of the divergence from the prior, one over the number of training images."""

    prior: NonNegative = 1 / 45_000

    heads = 2  # means and variances

    def last_layer(self, linear: nn.Linear) -> GaussLinear:
        """A layer with random weights."""
        return GaussLinear(linear)

    def distribution(self, logits: Tensor, outputs: Tensor) -> LogitGaussian:
        """N(z, diag σ²) of means and variances [N, 2, C]: the logits are independent, as no two share a weight."""
        mean, variance = logits.unbind(1)
        return LogitGaussian(mean, torch.diag_embed(variance.clamp_min(SMALLEST).sqrt()))

    def loss(self, student: LogitGaussian, targets: Targets, network: nn.Module) -> Tensor:
        """The loss of `OneDraw` for one draw of each input, + β KL(weights ‖ N(0, 1))."""
        drawn = student.draw(torch.randn_like(student.loc).unsqueeze(1))
        return super().loss(drawn, targets, network) + self.prior * network.classifier.divergence()
