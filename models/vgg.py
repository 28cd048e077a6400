"""VGG (Simonyan & Zisserman 2015) with batch norm and dropout, as one `nn.Sequential`: the sampler can cut it anywhere."""

from torch import nn

from models.architecture import Architecture, Normalize, Whiten, linear, map_dropout, rates, scaled, sequential
from training.errors import UserError

# Channels of the convolutions, block by block. A 2x2 max pooling ends each block, but not the last one of vgg8, whose widths and places of
# pooling are those of Jordan 2024 (arXiv 2404.00498).
BLOCKS = {
    "vgg5": [[64], [128], [256]],
    "vgg8": [[64], [64, 256], [256, 256], [256]],
    "vgg11": [[64], [128], [256, 256], [512, 512], [512, 512]],
    "vgg13": [[64, 64], [128, 128], [256, 256], [512, 512], [512, 512]],
    "vgg16": [[64, 64], [128, 128], [256, 256, 256], [512, 512, 512], [512, 512, 512]],
    "vgg19": [[64, 64], [128, 128], [256, 256, 256, 256], [512, 512, 512, 512], [512, 512, 512, 512]],
}


def vgg(architecture: Architecture) -> nn.Sequential:
    """Images [N, H, W, C] → logits [N, outputs]: convolutions with batch norm, ReLU and dropout, average pooling, two linear layers.

    Raises UserError if the images are too small for the depth, or the number of dropout rates is not that of their places.
    """
    a = architecture
    blocks = BLOCKS[a.network]
    dropout = rates(a, "conv", sum(map(len, blocks)))
    head_dropout = rates(a, "head", 2)
    pools = len(blocks) - (a.network == "vgg8")
    if a.size - a.whiten < 2**pools:
        raise UserError(f"data.size: {a.network} halves the image {pools} times, {a.size} pixels are too few")

    layers: dict[str, nn.Module] = {"normalize": Normalize(a.channels)}
    channels = a.channels
    if a.whiten:
        layers |= {"whiten": Whiten(channels), "whiten_relu": nn.ReLU(inplace=True)}
        channels = layers["whiten"].out_channels
    for b, block in enumerate(blocks, 1):
        for c, base in enumerate(block, 1):
            width = scaled(base, a.width)
            layers[f"conv{b}_{c}"] = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            normalized = {f"norm{b}_{c}": nn.BatchNorm2d(width), f"relu{b}_{c}": nn.ReLU(inplace=True)}
            dropped = {f"dropout{b}_{c}": map_dropout(a, dropout.pop(0))}
            layers |= dropped | normalized if a.dropped == "filters" else normalized | dropped
            channels = width
        if b <= pools:
            layers[f"pool{b}"] = nn.MaxPool2d(2)
    layers["average"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head_dropout1"] = nn.Dropout(head_dropout[0])
    layers["head1"] = linear(a, channels, channels)
    layers["head_relu"] = nn.ReLU(inplace=True)
    layers["head_dropout2"] = nn.Dropout(head_dropout[1])
    layers["head2"] = linear(a, channels, a.outputs)
    return sequential(layers)
