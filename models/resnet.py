"""ResNet-18 (He et al. 2016).

With a spectral norm it is that of Mukhoti et al. (2021, section 4): leaky ReLU, and average pooling where a shortcut
has to shrink.
"""

from torch import Tensor, nn

from models.architecture import Architecture, Normalize, linear, map_dropout, rates, scaled, sequential

CHANNELS = (64, 128, 256, 512)  # of each stage of two blocks
SMALL = 64  # pixels


class Residual(nn.Module):
    """x → convolutions(x) + shortcut(x), two 3x3 convolutions with batch norm and activation; the first has the stride.

    dropout: of the sum; or, with `filters`, of the last convolution's output.
    """

    def __init__(self, a: Architecture, inputs: int, width: int, stride: int, rate: float):
        super().__init__()
        dropout, filters = map_dropout(a, rate), a.dropped == "filters"
        self.convolutions = nn.Sequential(
            nn.Conv2d(inputs, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            activation(a),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            *([dropout] if filters else []),
            nn.BatchNorm2d(width),
        )
        self.shortcut = nn.Identity()
        if (stride, inputs) != (1, width):
            projection = (nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            average = (
                nn.AvgPool2d(stride, ceil_mode=True),
                nn.ZeroPad3d((0, 0, 0, 0, 0, width - inputs)),
            )
            self.shortcut = nn.Sequential(*(projection if a.spectral_norm is None else average))
        self.activation = activation(a)
        self.dropout = nn.Identity() if filters else dropout

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.activation(self.convolutions(x) + self.shortcut(x)))


def activation(a: Architecture) -> nn.Module:
    """With a spectral norm leaky ReLU, which keeps distances that ReLU loses; else ReLU."""
    return nn.ReLU(inplace=True) if a.spectral_norm is None else nn.LeakyReLU(inplace=True)


def resnet18(a: Architecture) -> nn.Sequential:
    """Images [N, H, W, C] → logits [N, outputs]: a convolution, residual blocks (with dropout), average pooling, a
    linear layer.

    The first convolution is 3x3, as for CIFAR-10. For images larger than SMALL it is 7x7 with stride 2, before pooling,
    as for ImageNet.
    """
    dropout, channels = rates(a, "conv", 2 * len(CHANNELS)), scaled(CHANNELS[0], a.width)
    large = max(a.shape[:2]) > SMALL
    layers = {
        "normalize": Normalize(a.channels),
        "conv": nn.Conv2d(a.channels, channels, *((7, 2, 3) if large else (3, 1, 1)), bias=False),
        "norm": nn.BatchNorm2d(channels),
        "activation": activation(a),
    }
    if large:
        layers["smaller"] = nn.MaxPool2d(3, 2, 1)
    for s, base in enumerate(CHANNELS, 1):
        width = scaled(base, a.width)
        layers[f"block{s}_1"] = Residual(a, channels, width, min(s, 2), dropout.pop(0))
        layers[f"stage{s}"] = Residual(a, width, width, 1, dropout.pop(0))
        channels = width
    layers |= {"average": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    layers |= {"head_dropout": nn.Dropout(*rates(a, "head", 1)), "head2": linear(a, channels, a.outputs)}
    return sequential(layers)
