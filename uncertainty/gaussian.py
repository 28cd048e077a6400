"""A Gaussian over logits: the sum of dropout's many small changes is nearly Gaussian before the softmax."""

from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from uncertainty.distribution import Distribution, in_parts
from uncertainty.samples import Samples

DRAWS = 256  # quasi-random draws that every measure is computed from
CHUNK = 2048  # inputs whose draws are in memory at once
SMALLEST = 1e-9  # variance of a logit


@dataclass(frozen=True)
class LogitGaussian(Distribution):
    """p = softmax(z), z ~ N(loc, F Fᵀ + diag(scale²)) for each input: loc [N, C], factor F [N, C, R], scale [N, C] or
    None.

    Its measures have no closed form: they are those of DRAWS quasi-random draws, the same ones for every input. So they
    are smooth functions of loc and factor, and the same in training and later: no variance of random draws biases a
    squared loss.
    """

    loc: Tensor
    factor: Tensor
    scale: Tensor | None = None

    @classmethod
    def from_covariance(cls, loc: Tensor, covariance: Tensor) -> "LogitGaussian":
        """N(loc, covariance) for covariances [N, C, C] that may be singular."""
        smallest = SMALLEST * torch.eye(loc.shape[-1], dtype=torch.float64, device=loc.device)
        return cls(loc, torch.linalg.cholesky(covariance.double() + smallest).to(loc.dtype))

    def draw(self, noise: Tensor) -> Samples:
        """The samples from standard normal `noise`: [T, R], or [T, R + C] with a scale; [N, T, ...] if each input has
        its own."""
        rank = self.factor.shape[-1]
        z = self.loc.unsqueeze(-1) + self.factor @ noise[..., :rank].mT  # [N, C, T]: a softmax of short rows is slow
        if self.scale is not None:
            z = z + self.scale.unsqueeze(-1) * noise[..., rank:].mT
        return Samples(z.log_softmax(-2).mT)

    def sample(self, count: int) -> Tensor:
        """softmax(z) of normal z."""
        return self.draw(torch.randn(len(self.loc), count, self.dimensions).to(self.loc)).probs

    def log_density(self, log_probs: Tensor) -> Tensor:
        """log N(y; A loc, A Σ Aᵀ) − Σ_c log p_c with Σ = F Fᵀ + diag(scale²), y = A log p = log p_c − log p_C
        (Aitchison & Shen 1980)."""
        loc, factor, log_p = self.loc.double(), self.factor.double(), log_probs.double()
        if self.scale is not None:
            factor = torch.cat([factor, torch.diag_embed(self.scale.double())], -1)
        differences = factor[:, :-1] - factor[:, -1:]
        covariance = differences @ differences.mT + SMALLEST * torch.eye(
            loc.shape[-1] - 1, dtype=loc.dtype, device=loc.device
        )
        normal = torch.distributions.MultivariateNormal(
            (loc[:, :-1] - loc[:, -1:]).unsqueeze(1), covariance.unsqueeze(1)
        )
        return (normal.log_prob(log_p[..., :-1] - log_p[..., -1:]) - log_p.sum(-1)).mean(1)

    draws = DRAWS

    @property
    def dimensions(self) -> int:
        """How many normal numbers one draw takes."""
        return self.factor.shape[-1] + (0 if self.scale is None else self.scale.shape[-1])

    @cached_property
    def _measures(self) -> dict[str, Tensor]:
        noise = quasi_normal(DRAWS, self.dimensions).to(self.loc)
        parameters = [of for of in (self.loc, self.factor, self.scale) if of is not None]

        def measures(*part: Tensor) -> tuple[Tensor, ...]:
            samples = LogitGaussian(*part).draw(noise)
            return samples.mean, samples.expected_entropy, samples.total_variance

        return dict(zip(("mean", "expected_entropy", "total_variance"), in_parts(measures, CHUNK, *parameters)))

    @property
    def mean(self) -> Tensor:
        return self._measures["mean"]

    @property
    def expected_entropy(self) -> Tensor:
        return self._measures["expected_entropy"]

    @property
    def total_variance(self) -> Tensor:
        return self._measures["total_variance"]


@cache
@torch.compiler.assume_constant_result
def quasi_normal(count: int, dimensions: int) -> Tensor:
    """`count` points [count, dimensions] of a scrambled Sobol sequence, as standard normal numbers (float32)."""
    with torch.inference_mode(False):  # the cached tensor is used in training, too
        uniform = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=0).draw(count, dtype=torch.float64)
        return torch.special.ndtri(uniform.clamp(1e-9, 1 - 1e-9)).float()
