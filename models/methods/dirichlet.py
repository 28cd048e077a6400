"""Dirichlet students: the first work's, trained by likelihood, and what became of it."""

import torch.nn.functional as F
from torch import Tensor

from configs.schema import Student
from models.methods import logit_gaussian
from models.methods.interface import Context, StudentMethod, Targets
from models.methods.logit_gaussian import moments
from uncertainty.dirichlet import Dirichlet

SMALLEST = 1e-12  # probability: the logarithm of a smaller one is of no use


def softplus(logits: Tensor, numbers: Tensor, settings: Student) -> Dirichlet:
    """α = softplus(logits) + floor: the last layer alone, as in the first work."""
    return Dirichlet(F.softplus(logits) + settings.alpha_floor, settings.information_scale or 1.0)


def precision(logits: Tensor, numbers: Tensor, settings: Student) -> Dirichlet:
    """α = α₀ softmax(logits) with α₀ = softplus(number) + floor."""
    alpha = (F.softplus(numbers) + settings.alpha_floor) * logits.softmax(-1).clamp_min(SMALLEST)
    return Dirichlet(alpha, settings.information_scale or 1.0)


def projected(logits: Tensor, numbers: Tensor, settings: Student) -> Dirichlet:
    """The Dirichlet with the Gaussian's mean and total variance: a Gaussian learns them better than a Dirichlet does."""
    mean, total_variance = logit_gaussian.gaussian(logits, numbers, settings).of_draws("mean", "total_variance")
    return Dirichlet.from_moments(mean, total_variance, settings.information_scale or 1.0)


def likelihood(student: Dirichlet, targets: Targets, context: Context) -> Tensor:
    """Mean negative log-likelihood of the samples (Malinin et al. 2020, eq. 8, without their temperature)."""
    return student.nll(targets["mean_log_prob"]).mean()


PROJECTED = StudentMethod(projected, moments, "dirichlet_by_moments", logit_gaussian.numbers, logit_gaussian.gaussian, True)
PRECISION = StudentMethod(precision, moments, "dirichlet_by_moments", lambda classes, settings: 1, None, True)
LINEAR = StudentMethod(softplus, moments, "dirichlet_by_moments", scales_information=True)
LIKELIHOOD = StudentMethod(softplus, likelihood, "dirichlet_by_likelihood")
