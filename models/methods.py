"""What a student outputs and by what it is trained: one `Method` each, in `METHODS`.

A student's outputs are a network's logits [N, C] and, from a perceptron on its features, `numbers` [N, K]; a head makes a distribution
of them. A new method is a head, a loss (or those that are here), and one line.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.schema import Student
from uncertainty.dirichlet import Dirichlet
from uncertainty.distribution import Distribution
from uncertainty.gaussian import LogitGaussian
from uncertainty.losses import Targets, likelihood, moments

SMALLEST = 1e-12  # probability: the logarithm of a smaller one is of no use


def softplus(logits: Tensor, numbers: Tensor, settings: Student) -> Dirichlet:
    """α = softplus(logits) + floor: the last layer alone, as in the first work."""
    return Dirichlet(F.softplus(logits) + settings.alpha_floor, settings.information_scale or 1.0)


def precision(logits: Tensor, numbers: Tensor, settings: Student) -> Dirichlet:
    """α = α₀ softmax(logits) with α₀ = softplus(number) + floor."""
    alpha = (F.softplus(numbers) + settings.alpha_floor) * logits.softmax(-1).clamp_min(SMALLEST)
    return Dirichlet(alpha, settings.information_scale or 1.0)


def delta(logits: Tensor, numbers: Tensor, settings: Student) -> Dirichlet:
    """α = m · G / v with m = softmax(logits), G = Σ_c m_c (1 − m_c), v = Σ_c Var(p_c) to first order for p = softmax(z) of `gaussian`.

    With J = diag(m) − m mᵀ, v = ‖J F‖². The Dirichlet's total variance is then G v / (G + v): v where that is small, G at most.
    """
    mean = logits.softmax(-1).clamp_min(SMALLEST)
    fixed = mean.detach()  # the mean is learnt from the teacher's mean alone
    factor = gaussian(logits, numbers, settings).covariance_factor
    jacobian_factor = fixed.unsqueeze(-1) * (factor - fixed.unsqueeze(-2) @ factor)
    variance = jacobian_factor.square().sum((-2, -1)).clamp_min(SMALLEST)
    gini = (fixed * (1 - fixed)).sum(-1)
    return Dirichlet((gini / variance).unsqueeze(-1) * mean, settings.information_scale or 1.0)


def gaussian(logits: Tensor, numbers: Tensor, settings: Student) -> LogitGaussian:
    """N(logits, L Lᵀ), L a Cholesky factor with softplus on its diagonal; with a rank, N(logits, U Uᵀ + diag(softplus²))."""
    classes = logits.shape[-1]
    scale, rest = F.softplus(numbers[:, :classes]), numbers[:, classes:]
    if settings.rank is not None:
        return LogitGaussian(logits, rest.unflatten(1, (classes, settings.rank)), scale)
    rows, columns = torch.tril_indices(classes, classes, -1, device=logits.device)
    factor = torch.diag_embed(scale)
    factor[:, rows, columns] = rest
    return LogitGaussian(logits, factor)


def gaussian_numbers(classes: int, settings: Student) -> int:
    """How many numbers `gaussian` takes."""
    return classes * (classes + 1) // 2 if settings.rank is None else classes * (1 + settings.rank)


@dataclass(frozen=True)
class Method:
    """What makes a student.

    head: (logits, numbers) → distribution. numbers: how many of them it takes for C classes; none, no perceptron. loss: of the distribution
    against the teacher's samples. matched: the measures that the loss compares. family: what the distribution is one of, in
    `uncertainty.families`. scales_information: whether its mutual information, which is not matched, is multiplied by a number in the end.
    """

    head: Callable[[Tensor, Tensor, Student], Distribution]
    loss: Callable[[Distribution, Targets, dict[str, float]], Tensor]
    family: str
    numbers: Callable[[int, Student], int] = lambda classes, settings: 0
    matched: tuple[str, ...] = ("total_variance",)
    scales_information: bool = True


METHODS = {
    "dirichlet": Method(delta, moments, "dirichlet_by_moments", gaussian_numbers),
    "dirichlet_precision": Method(precision, moments, "dirichlet_by_moments", lambda classes, settings: 1),
    "dirichlet_linear": Method(softplus, moments, "dirichlet_by_moments"),
    "dirichlet_likelihood": Method(softplus, likelihood, "dirichlet_by_likelihood", matched=(), scales_information=False),
    "logit_gaussian": Method(
        gaussian, moments, "logit_gaussian", gaussian_numbers, ("total_variance", "expected_entropy"), scales_information=False
    ),
}
