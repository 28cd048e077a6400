"""A multi-layer perceptron with dropout, for points rather than images."""

import math

from torch import nn

from configs.errors import UserError
from models.architecture import Architecture, Normalize, linear, rates, scaled, sequential

HIDDEN = [128, 128, 128]


def mlp(a: Architecture) -> nn.Sequential:
    """Images [N, H, W, C], such as points of a plane in one pixel, → logits [N, outputs]: three hidden layers with ReLU
    and dropout.

    Raises UserError for dropout of channels or filters.
    """
    if a.dropped != "units":
        raise UserError(f"teacher.dropped: a perceptron has no {a.dropped}")
    layers = {"normalize": Normalize(a.channels), "flatten": nn.Flatten()}
    units = math.prod(a.shape)
    for i, (base, rate) in enumerate(zip(HIDDEN, rates(a, "conv", len(HIDDEN))), 1):
        width = scaled(base, a.width)
        layers[f"linear{i}"] = nn.Linear(units, width)
        layers |= {f"hidden{i}": nn.ReLU(inplace=True), f"dropout{i}": nn.Dropout(rate)}
        units = width
    return sequential(layers | {"head2": linear(a, units, a.outputs)})
