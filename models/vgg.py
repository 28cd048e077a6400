"""VGG (Simonyan & Zisserman 2015) with batch norm and dropout, as one `nn.Sequential`: the sampler can cut it
anywhere."""

from torch import nn

from configs.errors import UserError
from models.architecture import Architecture, Normalize, Whiten, linear, map_dropout, rates, scaled, sequential

# Channels of the convolutions, block by block; a 2x2 max pooling ends each block.
BLOCKS = {
    "vgg5": [[64], [128], [256]],
    "vgg11": [[64], [128], [256, 256], [512, 512], [512, 512]],
    "vgg13": [[64, 64], [128, 128], [256, 256], [512, 512], [512, 512]],
    "vgg16": [[64, 64], [128, 128], [256, 256, 256], [512, 512, 512], [512, 512, 512]],
    "vgg19": [[64, 64], [128, 128], [256, 256, 256, 256], [512, 512, 512, 512], [512, 512, 512, 512]],
}


def vgg(architecture: Architecture) -> nn.Sequential:
    """Images [N, H, W, C] → logits [N, outputs]: convolutions with batch norm, ReLU and dropout, average pooling, two
    linear layers.

    Raises UserError if the images are too small for the depth, or the number of dropout rates is not that of their
    places.
    """
    a = architecture
    blocks = BLOCKS[a.network]
    dropout = rates(a, "conv", sum(map(len, blocks)))
    head_dropout = rates(a, "head", 2)
    require_size(a, a.size, len(blocks))

    layers, channels = first_layers(a, padding=1)  # 31 pixels could not be halved five times
    for b, block in enumerate(blocks, 1):
        for c, base in enumerate(block, 1):
            width = scaled(base, a.width)
            layers[f"conv{b}_{c}"] = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            layers |= after_convolution(a, f"{b}_{c}", width, dropout.pop(0))
            channels = width
        layers[f"pool{b}"] = nn.MaxPool2d(2)
    layers["average"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head_dropout1"] = nn.Dropout(head_dropout[0])
    layers["head1"] = linear(a, channels, channels)
    layers["head_relu"] = nn.ReLU(inplace=True)
    layers["head_dropout2"] = nn.Dropout(head_dropout[1])
    layers["head2"] = linear(a, channels, a.outputs)
    return sequential(layers)


def vgg7(architecture: Architecture) -> nn.Sequential:
    """Images [N, H, W, C] → logits [N, outputs]: a VGG that learns quickly (Jordan 2024, arXiv 2404.00498, section 3).

    Each block pools between its first convolution and batch norm, which saves time; the classifier is one linear layer.
    Raises UserError as `vgg`.
    """
    a = architecture
    widths = [64, 256, 256]
    dropout = rates(a, "conv", 2 * len(widths))
    (head_dropout,) = rates(a, "head", 1)
    require_size(a, a.size - a.whiten, len(widths))

    layers, channels = first_layers(a, padding=0)
    for b, base in enumerate(widths, 1):
        width = scaled(base, a.width)
        layers[f"conv{b}_1"] = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        layers[f"shrink{b}"] = nn.MaxPool2d(2)
        layers |= after_convolution(a, f"{b}_1", width, dropout.pop(0))
        layers[f"conv{b}_2"] = nn.Conv2d(width, width, 3, padding=1, bias=False)
        layers |= after_convolution(a, f"{b}_2", width, dropout.pop(0))
        layers[f"stage{b}"] = nn.Identity()
        channels = width
    layers["average"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head_dropout"] = nn.Dropout(head_dropout)
    layers["head"] = linear(a, channels, a.outputs)
    return sequential(layers)


def first_layers(a: Architecture, padding: int) -> tuple[dict[str, nn.Module], int]:
    """The layers that are not trained, and the number of channels that they give. padding: of `Whiten`."""
    layers: dict[str, nn.Module] = {"normalize": Normalize(a.channels)}
    if not a.whiten:
        return layers, a.channels
    whiten = Whiten(a.channels, padding)
    return layers | {"whiten": whiten, "whiten_relu": nn.ReLU(inplace=True)}, whiten.out_channels


def after_convolution(a: Architecture, place: str, width: int, rate: float) -> dict[str, nn.Module]:
    """Batch norm, ReLU and dropout."""
    normalized = {f"norm{place}": nn.BatchNorm2d(width), f"relu{place}": nn.ReLU(inplace=True)}
    dropped = {f"dropout{place}": map_dropout(a, rate)}
    return dropped | normalized if a.dropped == "filters" else normalized | dropped


def require_size(a: Architecture, size: int, halvings: int) -> None:
    """Raise UserError for maps that are too small to be halved as often."""
    if size < 2**halvings:
        raise UserError(f"data.size: {a.network} halves the image {halvings} times, {a.size} pixels are too few")
