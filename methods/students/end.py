"""EnD, ensemble distillation (Hinton, Vinyals & Dean 2015): the student learns the samples' mean, not their spread."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from configs.schema import Positive
from methods.interface import Context, StudentMethod, Targets
from uncertainty.point import Point


@dataclass(frozen=True)
class Options:
    """temperature: T, which softens the teacher's samples and the student's probabilities."""

    temperature: Positive = 1.0


def head(logits: Tensor, head_parameters: Tensor, options: Options) -> Point:
    """p = softmax(z)."""
    return Point(logits)


def loss(student: Point, targets: Targets, context: Context) -> Tensor:
    """T² KL(1/M Σ_m softmax(z_m / T) ‖ softmax(z / T)); T² keeps the size of the gradient (section 2)."""
    t = context.options.temperature
    mean = targets["mean"] if t == 1 else (targets["log_probs"].float() / t).softmax(-1).mean(1)
    return t**2 * F.kl_div((student.logits / t).log_softmax(-1), mean, reduction="batchmean")


METHOD = StudentMethod(head, loss, options=Options, needs_samples=True, ood_score="predictive_entropy")
