"""What all networks share: their description, their first and last layers, and their initial weights."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.errors import UserError
from configs.schema import Shape, image_shape
from models.contract import Network


@dataclass
class Architecture:
    """All that is needed to build a network again; it is stored with the weights.

    conv_dropout: for the output of every convolution (or block, or hidden layer), one rate or one for each.
    head_dropout: for the input of each linear layer of the classifier. dropped: `units`, `channels` or `filters`.
    heads: the number of classifiers. spectral_norm: the largest spectral norm of a layer (Mukhoti et al. 2021), or
    None. whiten: whether a VGG's first layer is a `Whiten`. resize: how images get the proportions of `size`. For a
    network from outside (`models.external`): options: its arguments. layers: those whose outputs a student's perceptron
    takes. digest: of its file.
    """

    network: str
    width: float
    size: int | list[int]
    channels: int
    outputs: int
    conv_dropout: list[float] | float = 0.0
    head_dropout: list[float] | float = 0.0
    heads: int = 1
    spectral_norm: float | None = None
    whiten: bool = False
    dropped: str = "units"
    resize: str = "squash"
    options: dict | None = None
    layers: list[str] | None = None
    digest: str | None = None

    @property
    def shape(self) -> Shape:
        """[H, W, C] of an image."""
        return image_shape(self.size, self.channels)


class Normalize(nn.Module):
    """Turns images of the data sets, [N, H, W, C] in 0-255, into standardized ones, [N, C, H, W] in channels_last
    memory."""

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    @torch.no_grad()
    def fit(self, parts: Iterable[Tensor]) -> None:
        """Take mean and standard deviation of each channel from uint8 images, in parts [N, H, W, C]."""
        counts = sum(
            torch.stack([plane.flatten().bincount(minlength=256) for plane in images.unbind(-1)]) for images in parts
        )
        share, values = counts / counts.sum(1, keepdim=True), torch.arange(256, dtype=torch.float64)
        mean = (share * values).sum(1, keepdim=True)
        self.mean.copy_(mean[:, 0])
        self.std.copy_((share * (values - mean) ** 2).sum(1).sqrt().clamp_min(1.0))

    @torch.no_grad()
    def set(self, mean: list[float], std: list[float]) -> None:
        """Take mean and standard deviation for pixels in [0, 1]. Raises UserError unless there is one possible number
        per channel."""
        if not len(mean) == len(std) == len(self.mean):
            raise UserError(f"mean, std: {len(mean)} and {len(std)} numbers for {len(self.mean)} channels")
        if not (all(0 <= x <= 1 for x in mean) and all(x > 0 for x in std)):
            raise UserError(f"mean, std: {mean} and {std}, but pixels are in [0, 1]: divide those for 0-255 by 255")
        self.mean.copy_(255 * torch.tensor(mean))
        self.std.copy_(255 * torch.tensor(std))

    def forward(self, images: Tensor) -> Tensor:
        return ((images.float() - self.mean) / self.std).permute(0, 3, 1, 2)


class Whiten(nn.Conv2d):
    """A first layer that is not trained: the principal components of 2x2 patches, each with variance 1, and their
    negatives (Jordan 2024, arXiv 2404.00498, section 3.2). Without padding, images are one pixel smaller behind it;
    with padding, one larger."""

    def __init__(self, channels: int, padding: int = 0):
        super().__init__(channels, 8 * channels, 2, padding=padding, bias=False)
        self.requires_grad_(False)

    @torch.no_grad()
    def fit(self, images: Tensor, smallest: float = 5e-4) -> None:
        """Take the components from standardized images [N, C, H, W]. smallest: is added to their variances."""
        patches = F.unfold(images, 2).movedim(1, 2).flatten(0, 1).double()
        variances, components = torch.linalg.eigh(patches.T @ patches / len(patches))
        weight = (components / (variances + smallest).sqrt()).T.view(-1, *self.weight.shape[1:])
        self.weight.copy_(torch.cat([weight, -weight]))


class HeadsLinear(nn.Module):
    """A linear layer for each of M heads: [N, F] or [N, M, F] → [N, M, G]."""

    def __init__(self, heads: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(heads, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(heads, outputs))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 2:
            x = x.unsqueeze(1).expand(-1, len(self.weight), -1)
        return torch.baddbmm(self.bias.unsqueeze(1), x.transpose(0, 1), self.weight.mT).transpose(0, 1)


def require_images(images: Tensor, shape: Shape, training: bool = False) -> None:
    """Raise ValueError for images that are not uint8 [N, *shape] (any type in training): a network's outputs would be
    wrong but plausible."""
    given = isinstance(images, Tensor) and images.shape[1:] == shape
    if not given or not (training or images.dtype == torch.uint8):
        raise ValueError(
            f"a network for a tensor of images uint8 [N, {', '.join(map(str, shape))}] in 0-255 was given "
            f"{type(images).__name__} {images.dtype} {list(images.shape)}"
        )


def linear(a: Architecture, inputs: int, outputs: int) -> nn.Module:
    """A linear layer of the classifier, of one head or several."""
    return nn.Linear(inputs, outputs) if a.heads == 1 else HeadsLinear(a.heads, inputs, outputs)


def rates(a: Architecture, part: Literal["conv", "head"], places: int) -> list[float]:
    """The dropout rates of the `places` places in a part of the network. Raises UserError for a list of another
    length."""
    given = getattr(a, f"{part}_dropout")
    rates = list(given) if isinstance(given, list) else [given] * places
    if len(rates) != places:
        raise UserError(f"teacher.{part}_dropout: {len(rates)} rates for the {places} places of {a.network}")
    return rates


def map_dropout(a: Architecture, rate: float) -> nn.Module:
    """Dropout of maps [N, C, H, W]: of units, or of whole channels."""
    return nn.Dropout(rate) if a.dropped == "units" else nn.Dropout2d(rate)


def sequential(layers: dict[str, nn.Module]) -> Network:
    """The layers as one network, with initial weights (He et al. 2015), in channels_last memory."""
    network = Network(OrderedDict(layers))
    for module in network.modules():
        if isinstance(module, HeadsLinear):
            for weight in module.weight:
                nn.init.kaiming_normal_(weight)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, mode="fan_out" if isinstance(module, nn.Conv2d) else "fan_in")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network.to(memory_format=torch.channels_last)


@torch.no_grad()
def start_as_identity(network: Network) -> None:
    """First weights with which convolutions and square linear layers pass on their inputs, and the classifier gives
    zeros; batch norm's scale stays 1 (Jordan 2024, arXiv 2404.00498, section 3.3)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and not isinstance(layer, Whiten):
            layer.reset_parameters()
            nn.init.dirac_(layer.weight[: layer.in_channels])
        elif isinstance(layer, nn.BatchNorm2d):
            layer.weight.requires_grad_(False)
        elif isinstance(layer, nn.Linear) and layer.in_features == layer.out_features:
            nn.init.eye_(layer.weight)
    for parameter in network.classifier.parameters():
        nn.init.zeros_(parameter)


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, rounded to a multiple of 8 (efficient in vector units), at least 8."""
    return 8 * max(1, round(channels * width / 8))
