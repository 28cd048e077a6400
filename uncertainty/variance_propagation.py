"""Variance propagation: the effect of dropout on the logits, from one pass of mean and variance, without training.

Mean and variance of every activation are carried from layer to layer as if activations were independent and Gaussian
(Gast & Roth 2018; for dropout, Postels et al. 2019); the last layer gives the full covariance of the logits.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.errors import UserError
from models.folding import InplaceReLU, MaxPool2x2
from uncertainty.gaussian import LogitGaussian
from uncertainty.mc_dropout import split

SMALLEST = 1e-12  # variance whose square root is taken


def propagate(network: nn.Sequential, images: Tensor) -> LogitGaussian:
    """The Gaussian of the logits of `images` under `network`'s dropout; the network ends in a linear layer and is in
    eval mode.

    Raises UserError for a network without dropout, or a layer that `MOMENTS` does not know.
    """
    prefix, suffix = split(network)
    mean = prefix(images).float()
    variance = torch.zeros_like(mean)
    for layer in suffix[:-1]:
        if type(layer) not in MOMENTS:
            raise UserError(
                f"variance propagation does not support {type(layer).__name__}: add its moments to {__name__}.MOMENTS"
            )
        mean, variance = (moment.float() for moment in MOMENTS[type(layer)](layer, mean, variance))
    last = suffix[-1]
    with torch.autocast(images.device.type, enabled=False):  # rounded to bfloat16 it might be no valid covariance
        return LogitGaussian.from_covariance(last(mean), (last.weight * variance.unsqueeze(1)) @ last.weight.T)


def convolution(layer: nn.Conv2d, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of sums of independent terms."""
    weight = layer.weight.square()
    return layer(mean), F.conv2d(variance, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)


def linear(layer: nn.Linear, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of sums of independent terms."""
    return layer(mean), F.linear(variance, layer.weight.square())


def batch_norm(layer: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """A fixed scale and shift of each channel."""
    scale = layer.weight.square() / (layer.running_var + layer.eps)
    return layer(mean), variance * scale.view(-1, 1, 1)


def relu(layer: nn.ReLU | InplaceReLU, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """The rectified Gaussian (Gast & Roth 2018, eq. 11-12)."""
    return _maximum(mean, variance, torch.zeros_like(mean), torch.zeros_like(mean))


def dropout(layer: nn.Dropout, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """x / (1 − p) with probability 1 − p, else 0: E[x²] grows by 1 / (1 − p)."""
    return mean, (variance + layer.p * mean.square()) / (1 - layer.p)


def max_pool(layer: nn.MaxPool2d | MaxPool2x2, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum of each pair along rows, then the maximum of two such maxima along columns."""
    for dim in (-1, -2):
        means, variances = mean.unfold(dim, 2, 2), variance.unfold(dim, 2, 2)
        mean, variance = _maximum(means[..., 0], variances[..., 0], means[..., 1], variances[..., 1])
    return mean, variance


def average_pool(layer: nn.AdaptiveAvgPool2d, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """The variance of a mean of n independent terms is their mean variance / n."""
    pooled = layer(variance)
    return layer(mean), pooled * (pooled[0, 0].numel() / variance[0, 0].numel())


def rearranged(layer: nn.Flatten | nn.Identity, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """The same numbers, perhaps in another shape."""
    return layer(mean), layer(variance)


MOMENTS = {
    nn.Conv2d: convolution,
    nn.Linear: linear,
    nn.BatchNorm2d: batch_norm,
    nn.ReLU: relu,
    InplaceReLU: relu,
    nn.Dropout: dropout,
    nn.MaxPool2d: max_pool,
    MaxPool2x2: max_pool,
    nn.AdaptiveAvgPool2d: average_pool,
    nn.Flatten: rearranged,
    nn.Identity: rearranged,
}


def _maximum(m1: Tensor, v1: Tensor, m2: Tensor, v2: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the larger of two independent Gaussians (Clark 1961, eq. 2-4)."""
    a = (v1 + v2).clamp_min(SMALLEST).sqrt()
    alpha = (m1 - m2) / a
    density = torch.exp(-alpha.square() / 2) / math.sqrt(2 * math.pi)
    first, second = torch.special.ndtr(alpha), torch.special.ndtr(-alpha)
    mean = m1 * first + m2 * second + a * density
    square = (m1.square() + v1) * first + (m2.square() + v2) * second + (m1 + m2) * a * density
    return mean, (square - mean.square()).clamp_min(0)
