"""Variance propagation: the effect of dropout on the logits, from one pass of mean and variance, without training.

Mean and variance of every activation are carried from layer to layer as if activations were independent and Gaussian
(Gast & Roth 2018; for dropout, Postels et al. 2019); the last layer gives the full covariance of the logits.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.errors import UserError
from models.folding import InplaceReLU, MaxPool2x2, halves, portable
from uncertainty.gaussian import LogitGaussian
from uncertainty.mc_dropout import split

MeanAndVariance = tuple[Tensor, Tensor]
Moments = dict[type[nn.Module], Callable[..., MeanAndVariance]]

SMALLEST = 1e-12  # variance whose square root is taken


def convolution(layer: nn.Conv2d, mean: Tensor, variance: Tensor) -> MeanAndVariance:
    """Mean and variance of sums of independent terms."""
    weight = layer.weight.square()
    return layer(mean), F.conv2d(variance, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)


def linear(layer: nn.Linear, mean: Tensor, variance: Tensor) -> MeanAndVariance:
    """Mean and variance of sums of independent terms."""
    return layer(mean), F.linear(variance, layer.weight.square())


def batch_norm(layer: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> MeanAndVariance:
    """A fixed scale and shift of each channel."""
    scale = layer.weight.square() / (layer.running_var + layer.eps)
    return layer(mean), variance * scale.view(-1, 1, 1)


def relu(layer: nn.ReLU | InplaceReLU, mean: Tensor, variance: Tensor) -> MeanAndVariance:
    """The rectified Gaussian (Gast & Roth 2018, eq. 11-12)."""
    return _maximum(mean, variance, torch.zeros_like(mean), torch.zeros_like(mean))


def dropout(layer: nn.Dropout, mean: Tensor, variance: Tensor) -> MeanAndVariance:
    """x / (1 − p) with probability 1 − p, else 0: E[x²] grows by 1 / (1 − p)."""
    return mean, (variance + layer.p * mean.square()) / (1 - layer.p)


def max_pool(layer: nn.MaxPool2d | MaxPool2x2, mean: Tensor, variance: Tensor) -> MeanAndVariance:
    """The maximum of each pair along rows, then the maximum of two such maxima along columns."""
    for dim in (-1, -2):
        means, variances = mean.unfold(dim, 2, 2), variance.unfold(dim, 2, 2)
        mean, variance = _maximum(means[..., 0], variances[..., 0], means[..., 1], variances[..., 1])
    return mean, variance


def average_pool(layer: nn.AdaptiveAvgPool2d, mean: Tensor, variance: Tensor) -> MeanAndVariance:
    """The variance of a mean of n independent terms is their mean variance / n."""
    pooled = layer(variance)
    return layer(mean), pooled * (pooled[0, 0].numel() / variance[0, 0].numel())


def rearranged(layer: nn.Flatten | nn.Identity, mean: Tensor, variance: Tensor) -> MeanAndVariance:
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


def linearized_relu(layer: nn.ReLU | InplaceReLU, mean: Tensor, variance: Tensor) -> MeanAndVariance:
    """g(m) and g'(m)² v of a ReLU g (Li et al. 2025)."""
    return mean.clamp_min(0), variance * (mean > 0)


def linearized_max_pool(layer: nn.MaxPool2d | MaxPool2x2, mean: Tensor, variance: Tensor) -> MeanAndVariance:
    """The mean and the variance of the input with the largest mean."""
    largest, places = F.max_pool2d(mean, 2, return_indices=True)
    return largest, variance.flatten(2).gather(2, places.flatten(2)).view_as(largest)


LINEARIZED = MOMENTS | {
    nn.ReLU: linearized_relu,
    InplaceReLU: linearized_relu,
    nn.MaxPool2d: linearized_max_pool,
    MaxPool2x2: linearized_max_pool,
}


def propagate(
    network: nn.Sequential, images: Tensor, moments: Moments = MOMENTS, scales: Sequence[float] | None = None
) -> LogitGaussian:
    """The Gaussian of the logits of `images` under `network`'s dropout; the network ends in a linear layer and is in
    eval mode.

    moments: the rule of each kind of layer. scales: what multiplies the variance after each layer from the first
    dropout on, as `layer_scales` finds them.
    Raises UserError for a network without dropout, or a layer that `moments` does not know.
    """
    prefix, suffix = split(network)
    scales = scales or [1.0] * len(suffix)
    mean = prefix(images).float()
    variance = torch.zeros_like(mean)
    for layer, scale in zip(suffix[:-1], scales[:-1], strict=True):
        mean, variance = after(layer, mean, variance, moments)
        variance = variance * scale
    last = suffix[-1]
    with torch.autocast(images.device.type, enabled=False):  # rounded to bfloat16 it might be no valid covariance
        weight = last.weight.double()  # in float32 the rounded covariance of more classes than features can be invalid
        covariance = (weight * variance.double().unsqueeze(1)) @ weight.T
        return LogitGaussian.from_covariance(last(mean), covariance * scales[-1])


def layer_scales(network: nn.Sequential, images: Tensor, passes: int) -> list[float]:
    """The variance of each layer's outputs, from `passes` passes with dropout, over the propagated one: means over the
    outputs and `images`. Each scale is found behind layers that have theirs (the calibration of Wieczorek et al.
    2026)."""
    prefix, suffix = split(portable(network))  # a folded one pools right only before a ReLU
    mean = prefix(images).float()
    variance, samples, scales = torch.zeros_like(mean), mean.repeat(passes, *[1] * (mean.ndim - 1)), []
    for layer in suffix:
        mean, variance = after(layer, mean, variance, MOMENTS)
        samples = F.dropout(samples, layer.p, training=True) if isinstance(layer, nn.Dropout) else layer(samples)
        sampled = samples.unflatten(0, (passes, -1)).float().var(0)
        scales.append((sampled.sum() / variance.sum().clamp_min(SMALLEST)).item())
        variance = variance * scales[-1]
    return scales


def after(layer: nn.Module, mean: Tensor, variance: Tensor, moments: Moments) -> MeanAndVariance:
    """Mean and variance after a layer, in float32. Raises UserError for a layer that `moments` does not know."""
    if type(layer) not in moments or isinstance(layer, nn.MaxPool2d) and not halves(layer):
        raise UserError(f"variance propagation does not support {layer}: add its moments to {__name__}.MOMENTS")
    mean, variance = moments[type(layer)](layer, mean, variance)
    return mean.float(), variance.float()


def _maximum(m1: Tensor, v1: Tensor, m2: Tensor, v2: Tensor) -> MeanAndVariance:
    """Mean and variance of the larger of two independent Gaussians (Clark 1961, eq. 2-4)."""
    a = (v1 + v2).clamp_min(SMALLEST).sqrt()
    alpha = (m1 - m2) / a
    density = torch.exp(-alpha.square() / 2) / math.sqrt(2 * math.pi)
    first, second = torch.special.ndtr(alpha), torch.special.ndtr(-alpha)
    mean = m1 * first + m2 * second + a * density
    square = (m1.square() + v1) * first + (m2.square() + v2) * second + (m1 + m2) * a * density
    return mean, (square - mean.square()).clamp_min(0)
