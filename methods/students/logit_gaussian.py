"""This project's other student: a Gaussian over the logits, with a full covariance. Its measures have no closed form,
but it can match the teacher's total variance and its mutual information at once, which no Dirichlet can."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.schema import Count, Positive
from methods.interface import HIDDEN, Matched, StudentMethod
from methods.students.moments import moments
from uncertainty.gaussian import LogitGaussian


@dataclass(frozen=True)
class Options:
    """matched: the measures that the loss matches, besides the mean. mean_weight: the weight of the mean. rank: of a
    covariance to which a diagonal is added; default: a full covariance. hidden, propagation: of the perceptron
    (`methods.student`)."""

    matched: tuple[Matched, ...] = ("total_variance", "expected_entropy")
    mean_weight: Positive = 4.0
    rank: Count | None = None
    hidden: Count = HIDDEN
    propagation: bool = False


def gaussian(logits: Tensor, head_parameters: Tensor, options: Options) -> LogitGaussian:
    """N(logits + shift, L Lᵀ), L a Cholesky factor with softplus on its diagonal; with a rank, the covariance is U Uᵀ +
    diag(softplus²)."""
    classes = logits.shape[-1]
    shift, scale, rest = head_parameters.tensor_split((classes, 2 * classes), 1)
    loc, scale = logits + shift, F.softplus(scale)
    if options.rank is not None:
        return LogitGaussian(loc, rest.unflatten(1, (classes, options.rank)), scale)
    rows, columns = torch.tril_indices(classes, classes, -1, device=logits.device)
    factor = torch.diag_embed(scale)
    factor[:, rows, columns] = rest
    return LogitGaussian(loc, factor)


def head_parameters(classes: int, options: Options) -> int:
    """How many head parameters `gaussian` takes."""
    return classes * (classes + 3) // 2 if options.rank is None else classes * (2 + options.rank)


METHOD = StudentMethod(gaussian, moments, lambda options: "weighted KL and squares", head_parameters, options=Options)
