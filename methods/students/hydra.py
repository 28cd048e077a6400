"""Hydra (Tran et al. 2020): one body, and a head for each function of the teacher."""

from dataclasses import dataclass

from torch import Tensor

from configs.schema import Count
from methods.interface import Context, StudentMethod, Targets
from training.errors import UserError
from uncertainty.samples import Samples


@dataclass(frozen=True)
class Options:
    """heads: M, as many as the teacher has members, or MC-dropout functions (`sampling.passes`)."""

    heads: Count = 5


def head(logits: Tensor, head_parameters: Tensor, options: Options) -> Samples:
    """The heads are samples: p_m = softmax(z_m), of logits [N, M, C]."""
    return Samples(logits.log_softmax(-1))


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) over the last dimension."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def loss(student: Samples, targets: Targets, context: Context) -> Tensor:
    """1/M Σ_m KL(p_m ‖ q_m), p_m of the teacher's function m, q_m of head m (eq. 4)."""
    teacher = targets["log_probs"].float()
    if teacher.shape[1] != student.log_probs.shape[1]:
        raise UserError(
            f"student.options.heads: {student.log_probs.shape[1]} heads for {teacher.shape[1]} functions (sampling.passes)"
        )
    return divergence(teacher, student.log_probs).mean()


METHOD = StudentMethod(
    head, loss, options=Options, heads=lambda options: options.heads, shared_masks=True, needs_samples=True
)
