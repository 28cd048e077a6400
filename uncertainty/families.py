"""How well the best member of a family of distributions could do: each input's own samples, fitted.

A fit is a function Samples → Distribution. What its measures miss of the samples' is lost to the family, not to learning.
"""

import numpy as np
import torch
from numpy import ndarray

from uncertainty.dirichlet import Dirichlet
from uncertainty.distribution import MEASURES, measures_of
from uncertainty.gaussian import LogitGaussian
from uncertainty.samples import Samples


def dirichlet_by_moments(samples: Samples) -> Dirichlet:
    """The Dirichlet with the samples' mean and total variance."""
    return Dirichlet.from_moments(samples.mean.double(), samples.total_variance.double())


def dirichlet_by_likelihood(samples: Samples, steps: int = 60) -> Dirichlet:
    """The Dirichlet of maximum likelihood, by Newton's method (Minka 2000, eq. 15-18), from the one by moments."""
    mean_log_prob = samples.log_probs.double().mean(1)
    alpha = dirichlet_by_moments(samples).alpha.clamp_min(1e-6)
    for _ in range(steps):
        total = alpha.sum(-1, keepdim=True)
        gradient = torch.digamma(total) - torch.digamma(alpha) + mean_log_prob
        q, z = -torch.polygamma(1, alpha), torch.polygamma(1, total)
        b = (gradient / q).sum(-1, keepdim=True) / (1 / z + (1 / q).sum(-1, keepdim=True))
        step = (gradient - b) / q
        alpha = torch.maximum(alpha - step, alpha / 3).minimum(3 * alpha)  # a full step may leave the positive numbers
    return Dirichlet(alpha)


def gaussian(samples: Samples, diagonal: bool = False) -> LogitGaussian:
    """The Gaussian with mean and covariance (or its diagonal alone) of the samples' logits, which are centred: Σ_c z_c = 0."""
    logits = samples.log_probs.double()
    logits = logits - logits.mean(-1, keepdim=True)
    loc = logits.mean(1)
    if diagonal:
        return LogitGaussian(loc, torch.diag_embed(logits.std(1)))
    offsets = logits - loc.unsqueeze(1)
    covariance = offsets.mT @ offsets / (logits.shape[1] - 1)
    return LogitGaussian.from_covariance(loc, covariance)


FAMILIES = {
    "dirichlet_by_moments": dirichlet_by_moments,
    "dirichlet_by_likelihood": dirichlet_by_likelihood,
    "logit_gaussian": gaussian,
    "logit_gaussian_diagonal": lambda samples: gaussian(samples, diagonal=True),
}


def family_limits(halves: list[Samples]) -> dict[str, dict[str, dict[str, float]]]:
    """For each family and measure: the correlation with the reference that a noiseless fit would reach, and its mean over the samples'.

    corr(fit_A, B) / √corr(fit_A, fit_B), averaged with A and B exchanged, removes the noise of the fit itself.
    """
    theirs = [measures_of(half) for half in halves]
    found = {}
    for family, fit in FAMILIES.items():
        fits = [measures_of(fit(half)) for half in halves]
        found[family] = {name: _limit([fit[name] for fit in fits], [half[name] for half in theirs]) for name in MEASURES}
    return found


def _limit(fits: list[ndarray], halves: list[ndarray]) -> dict[str, float]:
    crossed = np.corrcoef(fits[0], halves[1])[0, 1] + np.corrcoef(fits[1], halves[0])[0, 1]
    reliability = max(np.corrcoef(*fits)[0, 1], 0.0) or np.nan  # two fits that do not agree at all say nothing of their family
    return {"limit_pearson": crossed / 2 / np.sqrt(reliability), "scale": np.mean(fits) / np.mean(halves)}
