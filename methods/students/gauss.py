"""A diagonal Gaussian over the logits, by likelihood: what one would try first beside a Dirichlet."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.schema import Count
from methods.interface import HIDDEN, Context, StudentMethod, Targets
from uncertainty.gaussian import LogitGaussian

SMALLEST = 1e-3  # standard deviation of a logit


@dataclass(frozen=True)
class Options:
    """hidden: units in each hidden layer of the perceptron that the deviations come from."""

    hidden: Count = HIDDEN


def centred(logits: Tensor) -> Tensor:
    """The same with Σ_c z_c = 0, which a softmax does not see."""
    return logits - logits.mean(-1, keepdim=True)


def head(logits: Tensor, head_parameters: Tensor, options: Options) -> LogitGaussian:
    """N(z, diag(softplus(number)²)), z centred."""
    return LogitGaussian(centred(logits), torch.diag_embed(F.softplus(head_parameters) + SMALLEST))


def loss(student: LogitGaussian, targets: Targets, context: Context) -> Tensor:
    """−1/T Σ_t log N(z_t; loc, diag σ²) of the teacher's centred logits z_t."""
    z, sigma = centred(targets["log_probs"].float()), student.factor.diagonal(dim1=-2, dim2=-1).unsqueeze(1)
    error = (z - student.loc.unsqueeze(1)) / sigma
    return (error.square() / 2 + sigma.log() + math.log(2 * math.pi) / 2).sum(-1).mean()


METHOD = StudentMethod(head, loss, lambda options: "−log likelihood, nats", lambda classes, options: classes, Options, needs_samples=True)
