"""VGG (Simonyan & Zisserman 2015) with batch norm and dropout, as one `nn.Sequential`: the sampler can cut it anywhere."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from configs.errors import UserError

# Channels of the convolutions, block by block; a 2x2 max pooling ends each block.
BLOCKS = {
    "vgg5": [[64], [128], [256]],
    "vgg11": [[64], [128], [256, 256], [512, 512], [512, 512]],
    "vgg13": [[64, 64], [128, 128], [256, 256], [512, 512], [512, 512]],
    "vgg16": [[64, 64], [128, 128], [256, 256, 256], [512, 512, 512], [512, 512, 512]],
    "vgg19": [[64, 64], [128, 128], [256, 256, 256, 256], [512, 512, 512, 512], [512, 512, 512, 512]],
}


class Normalize(nn.Module):
    """Images as the data sets give them, [N, H, W, C] in 0-255, to a standardized [N, C, H, W] in channels_last memory."""

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Take mean and standard deviation of each channel from uint8 `images` [N, H, W, C]."""
        count = images[..., 0].numel()
        values = torch.arange(256, dtype=torch.float64)
        for c in range(images.shape[-1]):
            share = torch.bincount(images[..., c].reshape(-1), minlength=256).cpu() / count
            mean = (share * values).sum()
            self.mean[c] = mean
            self.std[c] = (share * (values - mean) ** 2).sum().sqrt().clamp_min(1.0)

    def forward(self, images: Tensor) -> Tensor:
        return ((images.float() - self.mean) / self.std).permute(0, 3, 1, 2)


@dataclass
class Architecture:
    """All that is needed to build a network again; it is kept beside the weights."""

    network: str
    width: float
    size: int
    channels: int
    outputs: int
    conv_dropout: list[float] | float = 0.0
    head_dropout: float = 0.0


def vgg(architecture: Architecture) -> nn.Sequential:
    """Images [N, H, W, C] → logits [N, outputs]: convolutions with batch norm, ReLU and dropout, average pooling, two linear layers.

    Raises UserError if the images are too small for the depth, or the number of dropout rates is not that of convolutions.
    """
    a = architecture
    blocks = BLOCKS[a.network]
    convolutions = sum(map(len, blocks))
    rates = list(a.conv_dropout) if isinstance(a.conv_dropout, list) else [a.conv_dropout] * convolutions
    if len(rates) != convolutions:
        raise UserError(f"teacher.conv_dropout: {len(rates)} rates for the {convolutions} convolutions of {a.network}")
    if a.size < 2 ** len(blocks):
        raise UserError(f"data.size: {a.network} halves the image {len(blocks)} times, {a.size} pixels are too few")

    layers: dict[str, nn.Module] = {"normalize": Normalize(a.channels)}
    channels = a.channels
    for b, block in enumerate(blocks, 1):
        for c, base in enumerate(block, 1):
            width = scaled(base, a.width)
            layers[f"conv{b}_{c}"] = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            layers[f"norm{b}_{c}"] = nn.BatchNorm2d(width)
            layers[f"relu{b}_{c}"] = nn.ReLU(inplace=True)
            layers[f"dropout{b}_{c}"] = nn.Dropout(rates.pop(0))
            channels = width
        layers[f"pool{b}"] = nn.MaxPool2d(2)
    layers["average"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head_dropout1"] = nn.Dropout(a.head_dropout)
    layers["head1"] = nn.Linear(channels, channels)
    layers["head_relu"] = nn.ReLU(inplace=True)
    layers["head_dropout2"] = nn.Dropout(a.head_dropout)
    layers["head2"] = nn.Linear(channels, a.outputs)
    network = nn.Sequential(OrderedDict(layers))
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, mode="fan_out" if isinstance(module, nn.Conv2d) else "fan_in")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network.to(memory_format=torch.channels_last)


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, rounded to a multiple of 8 (which vector units like), at least 8."""
    return 8 * max(1, round(channels * width / 8))
