"""EnDD with proxy targets (Ryabinin, Malinin & Gales 2021): the reverse KL to a Dirichlet that approximates the samples."""

import math

import torch
from torch import Tensor

from methods.interface import Context, NoOptions, StudentMethod, Targets
from uncertainty.dirichlet import Dirichlet


def head(logits: Tensor, head_parameters: Tensor, options: NoOptions) -> Dirichlet:
    """α = exp(z) + 1 (section 4), in float64, as exponentials of logits can be too large to be summed in float32."""
    return Dirichlet(logits.double().exp() + 1)


def proxy(log_probs: Tensor) -> tuple[Tensor, Tensor]:
    """The samples' mean π̄ [N, C] and β₀ = (C − 1) / (2 Σ_c π̄_c (log π̄_c − 1/M Σ_m log π_mc)) [N], of samples [N, M, C].

    β₀ is the precision of maximum likelihood, by Stirling's formula (eq. 9-10).
    """
    mean = log_probs.exp().mean(1)
    gap = (mean * (mean.clamp_min(1e-30).log() - log_probs.mean(1))).sum(-1)
    return mean, (log_probs.shape[-1] - 1) / (2 * gap.clamp_min(1e-9))


def loss(student: Dirichlet, targets: Targets, context: Context) -> Tensor:
    """KL(Dir(α) ‖ Dir(β₀ π̄ + 1)) / β₀, up to a constant: E_α[−Σ_c π̄_c log π_c] + KL(Dir(α) ‖ Dir(1)) / β₀ (eq. 11-13)."""
    mean, beta_0 = proxy(targets["log_probs"].double())
    alpha, alpha_0 = student.alpha, student.precision
    expected_log = torch.digamma(alpha) - torch.digamma(alpha_0).unsqueeze(-1)
    to_uniform = torch.lgamma(alpha_0) - torch.lgamma(alpha).sum(-1) - math.lgamma(alpha.shape[-1]) + ((alpha - 1) * expected_log).sum(-1)
    return (to_uniform / beta_0 - (mean * expected_log).sum(-1)).mean()


METHOD = StudentMethod(head, loss, lambda options: "KL to the proxy over β₀, nats", needs_samples=True)
