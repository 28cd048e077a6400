"""Hydra (Tran et al. 2020): one body, and a head for each function of the teacher."""

import torch.nn.functional as F
from torch import Tensor, nn

from configs.errors import UserError
from configs.schema import Count, dataclass
from methods.interface import Method, Targets
from uncertainty.samples import Samples


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) over the last dimension."""
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


class HeadsAsSamples(Method):
    """A method whose heads are samples: `draws` of them, or `heads`."""

    needs_samples = True

    @property
    def heads(self) -> int:
        """One for each draw."""
        return self.draws

    def distribution(self, logits: Tensor, outputs: Tensor) -> Samples:
        """p_m = softmax(z_m), of logits [N, M, C]."""
        return Samples(logits.log_softmax(-1))


@dataclass
class Hydra(HeadsAsSamples):
    """heads: M, as many as the teacher has members, or MC-dropout functions (`sampling.passes`)."""

    heads: Count = 5

    needs_functions = True

    def loss(self, student: Samples, targets: Targets, network: nn.Module) -> Tensor:
        """1/M Σ_m KL(p_m ‖ q_m), p_m of the teacher's function m, q_m of head m (eq. 4)."""
        teacher = targets.log_probs.float()
        if teacher.shape[1] != student.log_probs.shape[1]:
            raise UserError(
                f"student.options.heads: {student.log_probs.shape[1]} heads for {teacher.shape[1]} functions "
                "(sampling.passes)"
            )
        return divergence(teacher, student.log_probs).mean()
