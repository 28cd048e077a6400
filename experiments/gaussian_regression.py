"""Uncertainty of regression: the law of total variance, and scores of Gaussian predictions. NumPy arrays."""

from typing import NamedTuple

import numpy as np
from numpy import ndarray
from scipy.special import logsumexp
from scipy.stats import norm


class GaussianPrediction(NamedTuple):
    """A distribution of Gaussian predictions N(μ, σ²) of y for each input; μ is random, σ² may be. Arrays [..., N].

    Var(y) = E σ² + Var μ (Kendall & Gal 2017, eq. 9): `predictive_variance` is the sum of `expected_variance`
    (aleatoric) and of `total_variance` (epistemic).
    """

    mean: ndarray
    total_variance: ndarray
    expected_variance: ndarray

    @classmethod
    def of_samples(cls, means: ndarray, variances: ndarray | float) -> "GaussianPrediction":
        """From T samples of μ and of σ² [..., N, T], or a σ² that fits their shape."""
        return cls(means.mean(-1), means.var(-1, ddof=1), np.broadcast_to(variances, means.shape).mean(-1))

    @property
    def predictive_variance(self) -> ndarray:
        """E σ² + Var μ."""
        return self.expected_variance + self.total_variance

    @property
    def deviation(self) -> ndarray:
        """The standard deviation of y."""
        return np.sqrt(self.predictive_variance)

    def log_likelihood(self, y: ndarray) -> ndarray:
        """log N(y; E μ, Var(y)) for each input."""
        return norm.logpdf(y, self.mean, self.deviation)

    def crps(self, y: ndarray) -> ndarray:
        """The continuous ranked probability score of that Gaussian; lower is better (Gneiting & Raftery 2007, eq.
        21)."""
        z = (y - self.mean) / self.deviation
        return self.deviation * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))

    def covers(self, y: ndarray, level: float) -> ndarray:
        """Whether y is within the central interval of a level: the share that is should be the level."""
        return np.abs(y - self.mean) <= norm.ppf((1 + level) / 2) * self.deviation


def mixture_log_likelihood(y: ndarray, means: ndarray, variance: float) -> ndarray:
    """log 1/T Σ_t N(y; μ_t, σ²) for each input, from T samples μ [..., N, T] (Gal & Ghahramani 2016, eq. 8)."""
    return logsumexp(norm.logpdf(y[..., None], means, np.sqrt(variance)), -1) - np.log(means.shape[-1])
