"""This project's student: a Gaussian over the logits, with a full covariance, trained so that its measures are the teacher's.

The targets estimate what they stand for without bias for any number of passes T ≥ 2; few passes only make them noisier.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.schema import Student
from models.methods.interface import Context, StudentMethod, Targets
from uncertainty.distribution import Distribution
from uncertainty.gaussian import LogitGaussian


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


def numbers(classes: int, settings: Student) -> int:
    """How many numbers `gaussian` takes."""
    return classes * (classes + 3) // 2 if settings.rank is None else classes * (2 + settings.rank)


def moments(student: Distribution, targets: Targets, context: Context) -> Tensor:
    """4 KL(teacher's mean ‖ student's mean) + Σ_m (student's m − teacher's m)² / (σ_m (σ_m / 2 + student's m)), up to constants.

    σ_m is the spread of measure m. An estimate from few passes is the noisier the larger what it estimates, so squares weigh less where the
    student's own m, taken as a constant, is large. A weight made of the target, which has the same noise, would bias the student.
    """
    cross_entropy = -(targets["mean"] * student.mean.clamp_min(1e-12).log()).sum(-1)
    squares = []
    for m, sigma in context.spread.items():
        mine = getattr(student, m)
        squares.append((mine - targets[m]) ** 2 / (sigma * (sigma / 2 + mine.detach())))
    return (4 * cross_entropy + sum(squares)).mean()


METHOD = StudentMethod(gaussian, moments, "logit_gaussian", numbers)
