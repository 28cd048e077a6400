"""The empirical distribution of T samples: MC-dropout passes, or the members of an ensemble."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from uncertainty.distribution import Distribution, entropy


@dataclass(frozen=True)
class Samples(Distribution):
    """T samples of the class probabilities of each input, as log-probabilities [N, T, C]. Raises ValueError for another
    shape."""

    log_probs: Tensor

    def __post_init__(self):
        if self.log_probs.ndim != 3:
            raise ValueError(f"log_probs must be [N, T, C], not {tuple(self.log_probs.shape)}")

    @cached_property
    def probs(self) -> Tensor:
        """p [N, T, C]."""
        return self.log_probs.exp()

    def sample(self, count: int) -> Tensor:
        """The first `count` samples."""
        return self.probs[:, :count]

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
    def mutual_information(self) -> Tensor:
        """H(1/T Σ_t p_t) − 1/T Σ_t H(p_t). A plug-in estimate, biased low by about Σ_c Var(p_c) / (2T E p_c)."""
        return self.predictive_entropy - self.expected_entropy

    @property
    def total_variance(self) -> Tensor:
        """Σ_c of the unbiased variance (T − 1) of p_c. Raises ValueError for a single sample."""
        if self.log_probs.shape[1] < 2:
            raise ValueError("a variance needs at least two samples")
        return self.probs.var(1, correction=1).sum(-1)

    @property
    def variation_ratio(self) -> Tensor:
        """1 − (share of the samples that vote for the most voted class) (Freeman 1965)."""
        votes = torch.nn.functional.one_hot(self.log_probs.argmax(-1), self.log_probs.shape[-1])
        return 1 - votes.to(self.log_probs.dtype).mean(1).amax(-1)


STATISTICS = ("mean_log_prob", "mean", "total_variance", "expected_entropy")


def statistics(log_probs: Tensor) -> dict[str, Tensor]:
    """The statistics of samples [N, T, C] that a student learns from: 2C + 2 numbers per input, for every T.

    mean_log_prob [N, C] is sufficient for a Dirichlet's likelihood; mean [N, C], total_variance [N] and
    expected_entropy [N] are the moments, all unbiased for any T ≥ 2.
    """
    samples = Samples(log_probs)
    return dict(zip(STATISTICS, (log_probs.mean(1), samples.mean, samples.total_variance, samples.expected_entropy)))
