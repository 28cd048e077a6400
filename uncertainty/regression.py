"""Uncertainty of regression: the law of total variance, and scores of Gaussian predictions. NumPy arrays."""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray
from scipy.special import logsumexp
from scipy.stats import norm

LEVELS = (0.5, 0.9, 0.95)  # of central intervals


@dataclass(frozen=True)
class Regression:
    """A distribution of Gaussian predictions N(μ, σ²) of y for each of N inputs; μ is random, σ² may be.

    Var(y) = E σ² + Var μ (Kendall & Gal 2017, eq. 9): `predictive_variance` is the sum of `expected_variance`
    (aleatoric) and of `total_variance` (epistemic).
    """

    mean: ndarray
    total_variance: ndarray
    expected_variance: ndarray

    @classmethod
    def of_samples(cls, means: ndarray, variances: ndarray | float) -> "Regression":
        """From T samples of μ [N, T] and of σ² [N, T], or a constant σ²."""
        aleatoric = np.broadcast_to(variances, means.shape).mean(1)
        return cls(means.mean(1), means.var(1, ddof=1), aleatoric)

    @property
    def predictive_variance(self) -> ndarray:
        """E σ² + Var μ."""
        return self.expected_variance + self.total_variance

    def log_likelihood(self, y: ndarray) -> ndarray:
        """log N(y; E μ, Var(y)) for each input."""
        return norm.logpdf(y, self.mean, np.sqrt(self.predictive_variance))

    def crps(self, y: ndarray) -> ndarray:
        """The continuous ranked probability score of that Gaussian; lower is better (Gneiting & Raftery 2007, eq.
        21)."""
        s = np.sqrt(self.predictive_variance)
        z = (y - self.mean) / s
        return s * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))

    def coverage(self, y: ndarray) -> dict[float, float]:
        """The share of y within the central interval of each level: it should be the level."""
        distance = np.abs(y - self.mean) / np.sqrt(self.predictive_variance)
        return {level: float((distance <= norm.ppf((1 + level) / 2)).mean()) for level in LEVELS}


def mixture_log_likelihood(y: ndarray, means: ndarray, variance: float) -> ndarray:
    """log 1/T Σ_t N(y; μ_t, σ²) for each input, from T samples μ [N, T] (Gal & Ghahramani 2016, eq. 8)."""
    return logsumexp(norm.logpdf(y[:, None], means, np.sqrt(variance)), 1) - np.log(means.shape[1])
