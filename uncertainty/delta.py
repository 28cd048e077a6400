"""The distribution of a single softmax: one vector of class probabilities, which is taken as certain."""

from dataclasses import dataclass

import torch
from torch import Tensor

from uncertainty.distribution import Distribution


@dataclass(frozen=True)
class Delta(Distribution):
    """All mass on p = softmax(logits) for each input, logits [N, C]: its predictive entropy is all aleatoric."""

    logits: Tensor

    def sample(self, count: int) -> Tensor:
        """p itself, once."""
        return self.mean.unsqueeze(1)

    @property
    def mean(self) -> Tensor:
        return self.logits.softmax(-1)

    @property
    def expected_entropy(self) -> Tensor:
        """H(p)."""
        return self.predictive_entropy

    @property
    def total_variance(self) -> Tensor:
        """0, as the mutual information."""
        return torch.zeros_like(self.logits[:, 0])

    mutual_information = total_variance
