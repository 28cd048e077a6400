"""The interface that all methods share: a distribution over class probabilities.

A teacher's samples are one (`samples.Samples`), a student's Dirichlet is another (`dirichlet.Dirichlet`). All have the
same measures, so evaluation and plots do not depend on the method. All entropies are in nats.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from numpy import ndarray
from torch import Tensor

UNITS = {  # of every measure; empty: a plain number
    "predictive_entropy": "nats",
    "expected_entropy": "nats",
    "mutual_information": "nats",
    "total_variance": "",
    "entropy_minus_variance": "nats",
}
MEASURES = tuple(UNITS)
Values = dict[str, ndarray]  # [N] of each measure


def entropy(probs: Tensor) -> Tensor:
    """H(p) = −Σ p_c log p_c of probabilities [..., C], with 0 log 0 = 0 and a finite gradient there. Returns [...]."""
    return -(probs * probs.clamp_min(torch.finfo(probs.dtype).tiny).log()).sum(-1)


def in_parts(work: Callable[..., Sequence[Tensor]], size: int, *tensors: Tensor) -> Sequence[Tensor]:
    """`work(*tensors)` [N, ...], of `size` inputs at a time to save memory. In an export, whose number of inputs is
    open, of all of them at once."""
    if torch.compiler.is_exporting() or len(tensors[0]) <= size:
        return work(*tensors)
    return [torch.cat(parts) for parts in zip(*map(work, *(tensor.split(size) for tensor in tensors)))]


class Distribution(ABC):
    """A distribution of the class probabilities p of each of N inputs. Every property is a tensor [N], `mean` is [N,
    C]. draws: how many samples the measures are computed from; 0: closed forms."""

    draws = 0

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """E[p], the predicted probabilities [N, C]."""

    @property
    @abstractmethod
    def expected_entropy(self) -> Tensor:
        """E[H(p)], the aleatoric part of the predictive entropy (Depeweg et al. 2018, eq. 9)."""

    @property
    def mutual_information(self) -> Tensor:
        """I(y; p) = H(E[p]) − E[H(p)], the epistemic part of the predictive entropy (Houlsby et al. 2011, eq. 1).

        It is never negative (Jensen); a difference of two rounded entropies can be.
        """
        return (self.predictive_entropy - self.expected_entropy).clamp_min(0)

    @property
    @abstractmethod
    def total_variance(self) -> Tensor:
        """Σ_c Var(p_c), the epistemic uncertainty of Truong 2019."""

    @abstractmethod
    def sample(self, count: int) -> Tensor:
        """`count` samples of p [N, count, C] by torch's global random numbers; all that there are, if there are
        fewer."""

    def log_density(self, log_probs: Tensor) -> Tensor | None:
        """The mean log density on the simplex, in nats, of T samples [N, T, C] of p. Returns [N]; None: there is no
        density."""
        return None

    @cached_property
    def predictive_entropy(self) -> Tensor:
        """H(E[p]), the entropy of the predicted class: all uncertainty together."""
        return entropy(self.mean)

    @property
    def entropy_minus_variance(self) -> Tensor:
        """H(E[p]) − Σ_c Var(p_c), the aleatoric uncertainty of Truong 2019."""
        return self.predictive_entropy - self.total_variance

    @property
    def max_probability(self) -> Tensor:
        """max_c E[p_c], the confidence in the predicted class."""
        return self.mean.amax(-1)

    @property
    def predicted(self) -> Tensor:
        """argmax_c E[p_c]."""
        return self.mean.argmax(-1)


def measures_of(distribution: Distribution) -> Values:
    """Every measure [N] of a distribution, as float64 arrays."""
    return {name: getattr(distribution, name).double().cpu().numpy() for name in MEASURES}
