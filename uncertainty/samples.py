"""The empirical distribution of T samples: MC-dropout passes, or the members of an ensemble."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from uncertainty.distribution import Distribution, entropy


@dataclass(frozen=True)
class Samples(Distribution):
    """T samples of the class probabilities of each input, as log-probabilities [N, T, C].

    Its mutual information is a plug-in estimate, biased low by about Σ_c Var(p_c) / (2T E p_c).
    block: samples come in blocks of so many, and only those of different blocks are independent (stratified passes).
    Raises ValueError for another shape.
    """

    log_probs: Tensor
    block: int = 1

    def __post_init__(self):
        if self.log_probs.ndim != 3 or self.log_probs.shape[1] % self.block:
            raise ValueError(
                f"log_probs must be [N, T, C] with T a multiple of {self.block}, not {tuple(self.log_probs.shape)}"
            )

    @cached_property
    def probs(self) -> Tensor:
        """p [N, T, C]."""
        return self.log_probs.exp()

    def sample(self, count: int) -> Tensor:
        """At most `count` samples, evenly spaced."""
        return self.probs[:, :: max(1, self.draws // count)][:, :count]

    @property
    def draws(self) -> int:
        """T."""
        return self.log_probs.shape[1]

    @cached_property
    def mean(self) -> Tensor:
        return self.probs.mean(1)

    @property
    def expected_entropy(self) -> Tensor:
        """1/T Σ_t H(p_t)."""
        return entropy(self.probs).mean(1)

    @property
    def total_variance(self) -> Tensor:
        """Σ_c [1/T Σ_t (p_tc − p̄_c)² + 1/(B (B − 1)) Σ_b (p̄_bc − p̄_c)²], with the means p̄_b of B blocks.

        Unbiased: (E p)² is estimated by the pairs of different blocks. For blocks of one it is the variance with T − 1.
        Raises ValueError for a single block.
        """
        if self.log_probs.shape[1] < 2 * self.block:
            raise ValueError("a variance needs at least two independent samples")
        if self.block == 1:
            return self.probs.var(1, correction=1).sum(-1)
        means = self.probs.unflatten(1, (-1, self.block)).mean(2)
        return (self.probs.var(1, correction=0) + means.var(1, correction=1) / means.shape[1]).sum(-1)

    @property
    def variation_ratio(self) -> Tensor:
        """1 − (share of the samples that vote for the most voted class) (Freeman 1965)."""
        votes = torch.nn.functional.one_hot(self.log_probs.argmax(-1), self.log_probs.shape[-1])
        return 1 - votes.to(self.log_probs.dtype).mean(1).amax(-1)


STATISTICS = ("mean_log_prob", "mean", "total_variance", "expected_entropy")


def statistics(samples: Samples) -> dict[str, Tensor]:
    """The statistics of T samples that a student learns from: 2C + 2 numbers per input, for every T.

    mean_log_prob [N, C] is sufficient for a Dirichlet's likelihood; mean [N, C], total_variance [N] and
    expected_entropy [N] are the moments, all unbiased for any T ≥ 2.
    """
    means = (samples.log_probs.mean(1), samples.mean, samples.total_variance, samples.expected_entropy)
    return dict(zip(STATISTICS, means))
