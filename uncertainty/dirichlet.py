"""The Dirichlet distribution over class probabilities: every measure in closed form, and the likelihood that fits
it."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from uncertainty.distribution import Distribution


@dataclass(frozen=True)
class Dirichlet(Distribution):
    """Dir(α) for each input, α [N, C] > 0, with precision α₀ = Σ_c α_c. Closed forms as in Malinin & Gales (2018),
    appendix C."""

    alpha: Tensor

    def sample(self, count: int) -> Tensor:
        """p ~ Dir(α)."""
        return torch.distributions.Dirichlet(self.alpha).sample((count,)).movedim(0, 1)

    def log_density(self, log_probs: Tensor) -> Tensor:
        """−`nll`, in float64, as at high precision large terms cancel."""
        return -Dirichlet(self.alpha.double()).nll(log_probs.double().mean(1))

    @cached_property
    def precision(self) -> Tensor:
        """α₀ = Σ_c α_c [N]: how sure the distribution is of the probabilities."""
        return self.alpha.sum(-1)

    @cached_property
    def mean(self) -> Tensor:
        """α_c / α₀."""
        return self.alpha / self.precision.unsqueeze(-1)

    @property
    def expected_entropy(self) -> Tensor:
        """Σ_c α_c/α₀ · (ψ(α₀ + 1) − ψ(α_c + 1))."""
        return (self.mean * (torch.digamma(self.precision + 1).unsqueeze(-1) - torch.digamma(self.alpha + 1))).sum(-1)

    @property
    def mutual_information(self) -> Tensor:
        """Σ_c α_c/α₀ · g(α_c) − g(α₀) with g(x) = ψ(x + 1) − log x.

        This is H(E[p]) − E[H(p)] without the logarithms that cancel: at high precision the two entropies are nearly
        equal.
        """
        return (self.mean * _digamma_minus_log(self.alpha)).sum(-1) - _digamma_minus_log(self.precision)

    @property
    def total_variance(self) -> Tensor:
        """Σ_c m_c (1 − m_c) / (α₀ + 1) with m = α/α₀."""
        return (self.mean * (1 - self.mean)).sum(-1) / (self.precision + 1)

    def nll(self, mean_log_prob: Tensor) -> Tensor:
        """The mean negative log-likelihood of T samples, from their mean log-probabilities [N, C] alone. Returns [N].

        −log Γ(α₀) + Σ_c log Γ(α_c) − Σ_c (α_c − 1) · 1/T Σ_t log p_tc   (Malinin et al. 2020, eq. 8)
        """
        log_normalizer = torch.lgamma(self.precision) - torch.lgamma(self.alpha).sum(-1)
        return -log_normalizer - ((self.alpha - 1) * mean_log_prob).sum(-1)


def _digamma_minus_log(x: Tensor) -> Tensor:
    """ψ(x + 1) − log x > 0; for x ≥ 32 by its asymptotic series 1/2x − 1/12x² + 1/120x⁴ − 1/252x⁶, as the difference
    would cancel."""
    inverse = 1 / x.clamp_min(32.0)
    square = inverse * inverse
    series = inverse / 2 - square * (1 / 12 - square * (1 / 120 - square / 252))
    return torch.where(x < 32, torch.digamma(x + 1) - torch.log(x), series)
