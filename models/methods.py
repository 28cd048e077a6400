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

Head = Callable[[Tensor, Tensor, Student], Distribution]
SMALLEST = 1e-12  # probability: the logarithm of a smaller one is of no use


def softplus(logits: Tensor, numbers: Tensor, settings: Student) -> Dirichlet:
    """α = softplus(logits) + floor: the last layer alone, as in the first work."""
    return Dirichlet(F.softplus(logits) + settings.alpha_floor, settings.information_scale or 1.0)


def precision(logits: Tensor, numbers: Tensor, settings: Student) -> Dirichlet:
    """α = α₀ softmax(logits) with α₀ = softplus(number) + floor."""
    alpha = (F.softplus(numbers) + settings.alpha_floor) * logits.softmax(-1).clamp_min(SMALLEST)
    return Dirichlet(alpha, settings.information_scale or 1.0)


def gaussian(logits: Tensor, numbers: Tensor, settings: Student) -> LogitGaussian:
    """N(logits + shift, L Lᵀ), L a Cholesky factor with softplus on its diagonal; with a rank, the covariance is U Uᵀ + diag(softplus²)."""
    classes = logits.shape[-1]
    shift, scale, rest = numbers.tensor_split((classes, 2 * classes), 1)
    loc, scale = logits + shift, F.softplus(scale)
    if settings.rank is not None:
        return LogitGaussian(loc, rest.unflatten(1, (classes, settings.rank)), scale)
    rows, columns = torch.tril_indices(classes, classes, -1, device=logits.device)
    factor = torch.diag_embed(scale)
    factor[:, rows, columns] = rest
    return LogitGaussian(loc, factor)


def projected(logits: Tensor, numbers: Tensor, settings: Student) -> Dirichlet:
    """The Dirichlet with mean and total variance of `gaussian`: a Gaussian learns them better than a Dirichlet does."""
    student = gaussian(logits, numbers, settings)
    return Dirichlet.from_moments(student.mean, student.total_variance, settings.information_scale or 1.0)


def gaussian_numbers(classes: int, settings: Student) -> int:
    """How many numbers `gaussian` takes."""
    return classes * (classes + 3) // 2 if settings.rank is None else classes * (2 + settings.rank)


@dataclass(frozen=True)
class Method:
    """What makes a student.

    head: (logits, numbers) → distribution. loss: of a distribution against the teacher's samples. family: what the distribution is one of, in
    `uncertainty.families`. numbers: how many of them the head takes for C classes; none, no perceptron. learner: the head that the loss sees,
    where it is another one. scales_information: whether the mutual information, which is not matched, is multiplied by a number.
    """

    head: Head
    loss: Callable[[Distribution, Targets, dict[str, float]], Tensor]
    family: str
    numbers: Callable[[int, Student], int] = lambda classes, settings: 0
    learner: Head | None = None
    scales_information: bool = False


METHODS = {
    "dirichlet": Method(projected, moments, "dirichlet_by_moments", gaussian_numbers, gaussian, True),
    "dirichlet_precision": Method(precision, moments, "dirichlet_by_moments", lambda classes, settings: 1, None, True),
    "dirichlet_linear": Method(softplus, moments, "dirichlet_by_moments", scales_information=True),
    "dirichlet_likelihood": Method(softplus, likelihood, "dirichlet_by_likelihood"),
    "logit_gaussian": Method(gaussian, moments, "logit_gaussian", gaussian_numbers),
}
