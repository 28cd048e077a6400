"""The Dirichlet student: one pass gives α > 0 by a softplus, and α gives every measure in closed form.

Of a vector of classes it learns the logits z, and with a structured head how far dropout moves them: logits z + U ε, ε ~ N(0, I), with a
factor U of few columns for each input. The head says which Dirichlet has the mean and the total variance of softmax(z + U ε).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.methods.interface import Context, Matched, StudentMethod, Targets
from models.methods.moments import moments
from uncertainty.dirichlet import Dirichlet

SMALLEST = 1e-6  # concentration
SMALLEST_VARIANCE = 1e-12


@dataclass(frozen=True)
class Options:
    """head: which numbers become α, and how (see HEADS; `last_layer`: α = softplus of the network's last layer, as Truong 2019).
    loss: `moments`, or `likelihood` of the teacher's samples, as Truong 2019. matched: the measures that `moments` compares beside the
    mean; no Dirichlet has both the right variance and the right expected entropy. mean_weight: of the mean in `moments`. rank: columns of U;
    by default as many as classes."""

    head: Literal["softplus", "last_layer", "delta", "mean_field", "points", "laplace_bridge"] = "points"
    loss: Literal["moments", "likelihood"] = "moments"
    matched: tuple[Matched, ...] = ("total_variance",)
    mean_weight: float = 12.0
    rank: int | None = None


def delta(z: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Mean m = softmax(z) and precision Σ_c m_c (1 − m_c) / ‖(diag m − m mᵀ) U‖², the variance of softmax(z + U ε) to first order."""
    m = z.softmax(-1)
    return m, _precision_by_delta(m, factor)


def mean_field(z: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Mean m_c ∝ 1 / Σ_j exp(−(z_c − z_j) / √(1 + π/8 ‖u_c − u_j‖²)) (Daunizeau 2017; Lu et al. 2020); precision as `delta`, at m."""
    gram = factor @ factor.mT
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    squared = (diagonal.unsqueeze(-1) + diagonal.unsqueeze(-2) - 2 * gram).clamp_min(0)
    gaps = (z.unsqueeze(-1) - z.unsqueeze(-2)) / (1 + math.pi / 8 * squared).sqrt()
    m = (-(-gaps).logsumexp(-1)).softmax(-1)
    return m, _precision_by_delta(m, factor)


def points(z: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Mean m and precision (1 − s) / (s − ‖m‖²), s = mean ‖p‖², of the 2R fixed points p = softmax(z ± √R u_r).

    These points have the mean and the covariance of z + U ε: they integrate every cubic function of it exactly.
    """
    moves = math.sqrt(factor.shape[-1]) * factor.mT
    p = torch.cat([z.unsqueeze(1) + moves, z.unsqueeze(1) - moves], 1).softmax(-1)
    m, s = p.mean(1), p.square().sum(-1).mean(1)
    variance = (p - m.unsqueeze(1)).square().sum(-1).mean(1)  # s − ‖m‖² without its cancellation
    return m, (1 - s).clamp_min(SMALLEST_VARIANCE) / variance.clamp_min(SMALLEST_VARIANCE)


def laplace_bridge(z: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """α_c = (1 − 2/C + e^{z_c}/C² Σ_j e^{−z_j}) / Σ_cc with Σ = U Uᵀ and Σ_c z_c = 0, as mean and precision (Hobbhahn et al. 2022)."""
    classes = z.shape[-1]
    z = z - z.mean(-1, keepdim=True)
    bridge = 1 - 2 / classes + (z + (-z).logsumexp(-1, keepdim=True) - 2 * math.log(classes)).clamp_max(30).exp()
    alpha = bridge / factor.square().sum(-1).clamp_min(1e-4)
    total = alpha.sum(-1)
    return alpha / total.unsqueeze(-1), total


def _precision_by_delta(m: Tensor, factor: Tensor) -> Tensor:
    centred = factor - (m.unsqueeze(-1) * factor).sum(-2, keepdim=True)
    variance = (m.unsqueeze(-1) * centred).square().sum((-2, -1))
    return (m * (1 - m)).sum(-1).clamp_min(SMALLEST_VARIANCE) / variance.clamp_min(SMALLEST_VARIANCE)


STRUCTURED = {"delta": delta, "mean_field": mean_field, "points": points, "laplace_bridge": laplace_bridge}


def head(logits: Tensor, numbers: Tensor, options: Options) -> Dirichlet:
    """Dir(α) of the logits [N, C] and the perceptron's numbers [N, K]: o, C of them, which move the logits, z = logits + o; for a
    structured head o₀, whose softplus(o₀ + log(e − 1)) scales the precision and is 1 at the start, and U [C, R]."""
    classes = logits.shape[-1]
    if options.head == "last_layer":
        return Dirichlet(F.softplus(logits) + SMALLEST)
    with torch.autocast(logits.device.type, enabled=False):
        z = logits + numbers[:, :classes]
        if options.head == "softplus":
            return Dirichlet(F.softplus(z) + SMALLEST)
        scale = F.softplus(numbers[:, classes] + math.log(math.e - 1))
        m, alpha_0 = STRUCTURED[options.head](z, numbers[:, classes + 1 :].unflatten(1, (classes, options.rank or classes)))
        return Dirichlet((scale * alpha_0).unsqueeze(-1) * m + SMALLEST)


def numbers(classes: int, options: Options) -> int:
    """How many numbers `head` takes."""
    structured = 1 + classes * (options.rank or classes)
    return {"last_layer": 0, "softplus": classes}.get(options.head, classes + structured)


def likelihood(student: Dirichlet, targets: Targets, context: Context) -> Tensor:
    """Mean negative log likelihood of the samples (Malinin et al. 2020, eq. 8, without their temperature)."""
    return student.nll(targets["mean_log_prob"]).mean()


def loss(student: Dirichlet, targets: Targets, context: Context) -> Tensor:
    """The one of `options.loss`."""
    return (likelihood if context.options.loss == "likelihood" else moments)(student, targets, context)


METHOD = StudentMethod(head, loss, lambda options: f"dirichlet_by_{options.loss}", numbers, options=Options)
