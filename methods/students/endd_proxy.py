"""EnDD with proxy targets (Ryabinin, Malinin & Gales 2021): the reverse KL to a Dirichlet that approximates the
samples."""

import torch
from torch import Tensor, distributions, nn
from torch.distributions import kl_divergence

from configs.schema import NonNegative, dataclass
from methods.interface import Method, Targets
from uncertainty.dirichlet import Dirichlet

TRAINED = 1.0  # the offset of α in training (section 4)


def proxy(log_probs: Tensor) -> tuple[Tensor, Tensor]:
    """The samples' mean π̄ [N, C] and β₀ = (C − 1) / (2 Σ_c π̄_c (log π̄_c − 1/M Σ_m log π_mc)) [N], of samples [N, M,
    C].

    β₀ is the precision of maximum likelihood, by Stirling's formula (eq. 9-10).
    """
    mean = log_probs.exp().mean(1)
    gap = (mean * (mean.clamp_min(1e-30).log() - log_probs.mean(1))).sum(-1)
    return mean, (log_probs.shape[-1] - 1) / (2 * gap.clamp_min(1e-9))


@dataclass
class EnDDProxy(Method):
    """offset: is added to exp(z) in prediction. 0, the authors' default, gives the mean softmax(z); 1 is that of the
    training."""

    offset: NonNegative = 0.0

    needs_samples = True
    loss_name = "KL to the proxy over β₀, nats"

    def distribution(self, logits: Tensor, outputs: Tensor) -> Dirichlet:
        """α = exp(z) + offset, in float64, as exponentials of logits can be too large to be summed in float32."""
        return Dirichlet(logits.double().exp() + self.offset)

    def loss(self, student: Dirichlet, targets: Targets, network: nn.Module) -> Tensor:
        """E_α[−Σ_c π̄_c log π_c] + KL(Dir(α) ‖ Dir(1)) / (β₀ + C), with α = exp(z) + 1 (eq. 11-13).

        The divisor is the precision of the proxy Dir(β₀ π̄ + 1), as in the authors' code.
        """
        mean, beta_0 = proxy(targets.log_probs.double())
        alpha = student.alpha + (TRAINED - self.offset)
        expected_log = torch.digamma(alpha) - torch.digamma(alpha.sum(-1, keepdim=True))
        to_uniform = kl_divergence(distributions.Dirichlet(alpha), distributions.Dirichlet(torch.ones_like(alpha)))
        return (to_uniform / (beta_0 + alpha.shape[-1]) - (mean * expected_log).sum(-1)).mean()
