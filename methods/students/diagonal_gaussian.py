"""A diagonal Gaussian over the logits, fitted by likelihood: the simplest alternative to a Dirichlet. Not the Gauss of
Hydra+."""

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
    """hidden: units in each hidden layer of the perceptron that gives the standard deviations."""

    hidden: Count = HIDDEN


def centred(logits: Tensor) -> Tensor:
    """The logits shifted to Σ_c z_c = 0, which does not change their softmax."""
    return logits - logits.mean(-1, keepdim=True)


def head(logits: Tensor, head_parameters: Tensor, options: Options) -> LogitGaussian:
    """N(z, diag(softplus(h)²)), with centred logits z and head parameters h."""
    return LogitGaussian(centred(logits), torch.diag_embed(F.softplus(head_parameters) + SMALLEST))


def loss(student: LogitGaussian, targets: Targets, context: Context) -> Tensor:
    """−1/T Σ_t log N(z_t; loc, diag σ²) of the teacher's centred logits z_t."""
    z, sigma = centred(targets["log_probs"].float()), student.factor.diagonal(dim1=-2, dim2=-1).unsqueeze(1)
    error = (z - student.loc.unsqueeze(1)) / sigma
    return (error.square() / 2 + sigma.log() + math.log(2 * math.pi) / 2).sum(-1).mean()


METHOD = StudentMethod(
    head, loss, lambda options: "−log likelihood, nats", lambda classes, options: classes, Options, needs_samples=True
)
