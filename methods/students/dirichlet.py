"""The Dirichlet student: one pass gives α > 0 through a softplus, and α gives every measure in closed form.

In the heads `cubature` and `laplace_bridge`, dropout moves the logits to z + U ε with ε ~ N(0, I). The perceptron gives
U [C, R] for each input, and the head is approximately the Dirichlet with the mean and the total variance of
softmax(z + U ε).
"""

import math
from collections.abc import Callable
from dataclasses import field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.schema import Count, Positive, dataclass
from methods.interface import HIDDEN, Matched, Method, Targets, low_rank
from methods.students.moments import moments
from uncertainty.dirichlet import Dirichlet
from uncertainty.distribution import in_parts

SMALLEST = 1e-6  # concentration
SMALLEST_VARIANCE = 1e-12
CHUNK = 512  # inputs whose points are in memory at once: with many classes they fill it
Head = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def cubature(z: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Mean m = mean p and precision (1 − s) / (s − ‖m‖²), s = mean ‖p‖², of the 2R fixed points p = softmax(z ± √R
    u_r).

    z ± √R u_r have the mean and the covariance of z + U ε; the mean of any cubic function over them is exact
    (Arasaratnam & Haykin 2009).
    """
    moves = math.sqrt(factor.shape[-1]) * factor.mT
    p = torch.cat([z.unsqueeze(1) + moves, z.unsqueeze(1) - moves], 1).softmax(-1)
    m = p.mean(1)
    # r = p, but 1 − p of the likeliest class, as the sum of the others: near 1, float32 keeps too few digits of p.
    # Variance and p (1 − p) are the same for r.
    likeliest = F.one_hot(m.argmax(-1), m.shape[-1]).unsqueeze(1)
    others = p * (1 - likeliest)
    r = others + likeliest * others.sum(-1, keepdim=True)
    s_missing = (r * (1 - r)).sum(-1).mean(1)  # 1 − s
    variance = (r - r.mean(1, keepdim=True)).square().sum(-1).mean(1)  # s − ‖m‖²
    return m, s_missing.clamp_min(SMALLEST_VARIANCE) / variance.clamp_min(SMALLEST_VARIANCE)


def laplace_bridge(z: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """α_c = (1 − 2/C + e^{z_c}/C² Σ_j e^{−z_j}) / Σ_cc with Σ = U Uᵀ and Σ_c z_c = 0, as mean and precision (Hobbhahn
    et al. 2022)."""
    classes = z.shape[-1]
    z = z - z.mean(-1, keepdim=True)
    bridge = 1 - 2 / classes + (z + (-z).logsumexp(-1, keepdim=True) - 2 * math.log(classes)).clamp_max(30).exp()
    alpha = bridge / factor.square().sum(-1).clamp_min(1e-4)
    total = alpha.sum(-1)
    return alpha / total.unsqueeze(-1), total


STRUCTURED = {"cubature": cubature, "laplace_bridge": laplace_bridge}


@dataclass
class DirichletStudent(Method):
    """head: how α is computed (see `distribution`). objective: `moments`, or `likelihood` of the teacher's samples, as
    in Truong 2019. matched: the measures that `moments` matches besides the mean; no Dirichlet has both the right
    variance and the right expected entropy. mean_weight: the weight of the mean in `moments`. rank: R, the number of
    columns of U; default: the number of classes, or 16 of more than 100 classes. hidden, propagation: of the perceptron
    (`methods.student`)."""

    head: Literal["softplus", "last_layer", "cubature", "laplace_bridge"] = "cubature"
    objective: Literal["moments", "likelihood"] = "moments"
    matched: list[Matched] = field(default_factory=lambda: ["total_variance"])
    mean_weight: Positive = 12.0
    rank: Count | None = None
    hidden: Count = HIDDEN
    propagation: bool = False

    ood_score = "total_variance"

    def __post_init__(self):
        if self.head == "last_layer" and (self.hidden != HIDDEN or self.propagation):
            raise ValueError(
                "student.options: head last_layer has no perceptron: hidden and propagation would be ignored"
            )

    @property
    def loss_name(self) -> str:
        """For plots."""
        return "weighted KL and squares" if self.objective == "moments" else "−log likelihood, nats"

    def perceptron_outputs(self, classes: int) -> int:
        """A shift of the logits and, in the heads with U, its entries and o."""
        if self.head in STRUCTURED:
            return classes + 1 + classes * (low_rank(self.rank, classes) or classes)
        return classes if self.head == "softplus" else 0

    def distribution(self, logits: Tensor, outputs: Tensor) -> Dirichlet:
        """Dir(α) of the logits [N, C] and of the perceptron's outputs [N, K].

        last_layer: α = softplus(logits), as in Truong 2019. The others use z = logits + the first C outputs. softplus:
        α = softplus(z). cubature, laplace_bridge: α = softplus(o + log(e − 1)) α₀ m. The next output is o, the rest is
        U; z and U give the mean m and the precision α₀. That softplus is 1 at the start.
        """
        if self.head == "last_layer":
            return Dirichlet(F.softplus(logits) + SMALLEST)
        with torch.autocast(logits.device.type, enabled=False):
            moves, scale, factor = outputs.tensor_split((logits.shape[-1], logits.shape[-1] + 1), 1)
            z = logits + moves
            if self.head == "softplus":
                return Dirichlet(F.softplus(z) + SMALLEST)
            m, precision = in_parts(STRUCTURED[self.head], CHUNK, z, factor.unflatten(1, (z.shape[-1], -1)))
            return Dirichlet(F.softplus(scale + math.log(math.e - 1)) * precision.unsqueeze(-1) * m + SMALLEST)

    def loss(self, student: Dirichlet, targets: Targets, network: nn.Module) -> Tensor:
        """`moments`, or the samples' mean negative log likelihood (Malinin et al. 2020, eq. 8, without temperature)."""
        if self.objective == "likelihood":
            return student.nll(targets.mean_log_prob).mean()
        return moments(student, targets, self.matched, self.mean_weight)
