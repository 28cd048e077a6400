"""Residual networks: ResNet-18 and -50 (He et al. 2016), and WideResNet-28-10 (Zagoruyko & Komodakis 2016).

With a spectral norm they are those of Mukhoti et al. (2021, section 4): leaky ReLU, and average pooling where a
shortcut has to shrink.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from models.architecture import Architecture, Normalize, linear, map_dropout, rates, scaled, sequential


@dataclass(frozen=True)
class Shape:
    """kernels: of a block's convolutions. blocks, channels: of each stage. expansion: how many times as many channels a
    block's last convolution has. first: channels of the first convolution. wide: whether batch norm and activation come
    before each convolution, not after it."""

    kernels: tuple[int, ...]
    blocks: tuple[int, ...]
    channels: tuple[int, ...]
    expansion: int
    first: int
    wide: bool = False


SMALL = 64  # pixels
SHAPES = {
    "resnet18": Shape((3, 3), (2, 2, 2, 2), (64, 128, 256, 512), 1, 64),
    "resnet50": Shape((1, 3, 1), (3, 4, 6, 3), (64, 128, 256, 512), 4, 64),
    "wide_resnet28_10": Shape((3, 3), (4, 4, 4), (160, 320, 640), 1, 16, wide=True),
}


class AverageShortcut(nn.Module):
    """Average pooling, and zeros for the channels that are new."""

    def __init__(self, stride: int, new: int):
        super().__init__()
        self.stride = stride
        self.new = new

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(F.avg_pool2d(x, self.stride, ceil_mode=True), (0, 0, 0, 0, 0, self.new))


class Residual(nn.Module):
    """x → convolutions(x) + shortcut(x), each convolution with batch norm and activation; the first 3x3 one has the
    stride.

    dropout: of the sum; or, with `filters`, of the last convolution's output.
    """

    def __init__(
        self,
        inputs: int,
        widths: list[int],
        shape: Shape,
        stride: int,
        spectral: bool,
        dropout: nn.Module,
        filters: bool,
    ):
        super().__init__()
        strided = shape.kernels.index(3)
        layers: list[nn.Module] = []
        channels = inputs
        for i, (width, kernel) in enumerate(zip(widths, shape.kernels)):
            convolution = nn.Conv2d(channels, width, kernel, stride if i == strided else 1, kernel // 2, bias=False)
            if shape.wide:
                layers += [nn.BatchNorm2d(channels), activation(spectral), convolution]
            else:
                if layers:
                    layers.append(activation(spectral))
                layers += [convolution, nn.BatchNorm2d(width)]
            channels = width
        if filters:
            layers.insert(max(i for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)) + 1, dropout)
        self.convolutions = nn.Sequential(*layers)
        self.shortcut: nn.Module = nn.Identity()
        if (stride, inputs) != (1, channels):
            projection = [nn.Conv2d(inputs, channels, 1, stride, bias=False)] + [nn.BatchNorm2d(channels)] * (
                not shape.wide
            )
            self.shortcut = AverageShortcut(stride, channels - inputs) if spectral else nn.Sequential(*projection)
        self.activation = nn.Identity() if shape.wide else activation(spectral)
        self.dropout = nn.Identity() if filters else dropout

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.activation(self.convolutions(x) + self.shortcut(x)))


def activation(spectral: bool) -> nn.Module:
    """With a spectral norm leaky ReLU, which keeps distances that ReLU loses; else ReLU."""
    return nn.LeakyReLU(inplace=True) if spectral else nn.ReLU(inplace=True)


def resnet(architecture: Architecture) -> nn.Sequential:
    """Images [N, H, W, C] → logits [N, outputs]: a convolution, residual blocks (with dropout), average pooling, a
    linear layer.

    The first convolution is 3x3, as for CIFAR-10. For images larger than SMALL it is 7x7 with stride 2, before pooling,
    as for ImageNet.
    """
    a = architecture
    shape, spectral = SHAPES[a.network], a.spectral_norm is not None
    dropout = rates(a, "conv", sum(shape.blocks))
    large = a.size > SMALL
    channels = scaled(shape.first, a.width)
    layers: dict[str, nn.Module] = {
        "normalize": Normalize(a.channels),
        "conv": nn.Conv2d(a.channels, channels, 7 if large else 3, 2 if large else 1, 3 if large else 1, bias=False),
    }
    if not shape.wide:
        layers |= {"norm": nn.BatchNorm2d(channels), "activation": activation(spectral)}
    if large:
        layers["smaller"] = nn.MaxPool2d(3, 2, 1)
    for s, (count, base) in enumerate(zip(shape.blocks, shape.channels), 1):
        width = scaled(base, a.width)
        widths = [width] * (len(shape.kernels) - 1) + [width * shape.expansion]
        for b in range(1, count + 1):
            stride = 2 if b == 1 and s > 1 else 1
            name = f"stage{s}" if b == count else f"block{s}_{b}"
            layers[name] = Residual(
                channels, widths, shape, stride, spectral, map_dropout(a, dropout.pop(0)), a.dropped == "filters"
            )
            channels = widths[-1]
    if shape.wide:
        layers |= {"norm": nn.BatchNorm2d(channels), "activation": activation(spectral)}
    layers["average"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head_dropout"] = nn.Dropout(*rates(a, "head", 1))
    layers["head2"] = linear(a, channels, a.outputs)
    return sequential(layers)
