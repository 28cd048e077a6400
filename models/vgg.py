"""VGG (Simonyan & Zisserman 2015) with batch norm and dropout, as one `nn.Sequential`: the sampler can cut it
anywhere."""

from torch import nn

from configs.errors import UserError
from models.architecture import Architecture, Normalize, Whiten, linear, map_dropout, rates, scaled, sequential

# Channels of the convolutions, block by block; each block has a 2x2 max pooling.
BLOCKS = {
    "vgg5": [[64], [128], [256]],
    "vgg11": [[64], [128], [256, 256], [512, 512], [512, 512]],
    "vgg13": [[64, 64], [128, 128], [256, 256], [512, 512], [512, 512]],
    "vgg16": [[64, 64], [128, 128], [256, 256, 256], [512, 512, 512], [512, 512, 512]],
    "vgg19": [[64, 64], [128, 128], [256, 256, 256, 256], [512, 512, 512, 512], [512, 512, 512, 512]],
    "vgg7": [[64, 64], [256, 256], [256, 256]],
}


def vgg(a: Architecture) -> nn.Sequential:
    """Images [N, H, W, C] → logits [N, outputs]: convolutions with batch norm, ReLU and dropout, average pooling, two
    linear layers.

    vgg7 is a VGG that learns quickly (Jordan 2024, arXiv 2404.00498, section 3): each block pools between its first
    convolution and batch norm, which saves time, and the classifier is one linear layer. Raises UserError if the images
    are too small for the depth, or the number of dropout rates is not that of their places.
    """
    quick, blocks = a.network == "vgg7", BLOCKS[a.network]
    dropout, head_dropout = rates(a, "conv", sum(map(len, blocks))), rates(a, "head", 1 if quick else 2)
    if min(a.shape[:2]) - (quick and a.whiten) < 2 ** len(blocks):
        raise UserError(f"data.size: {a.network} halves the image {len(blocks)} times, {a.size} pixels are too few")

    layers = {"normalize": Normalize(a.channels)}
    channels = a.channels
    if a.whiten:  # padded where 31 pixels could not be halved five times
        layers |= {"whiten": Whiten(channels, padding=0 if quick else 1), "whiten_relu": nn.ReLU(inplace=True)}
        channels = layers["whiten"].out_channels
    for b, block in enumerate(blocks, 1):
        for c, base in enumerate(block, 1):
            width = scaled(base, a.width)
            layers[f"conv{b}_{c}"] = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            if quick and c == 1:
                layers[f"shrink{b}"] = nn.MaxPool2d(2)
            dropped = {f"dropout{b}_{c}": map_dropout(a, dropout.pop(0))}
            normalized = {f"norm{b}_{c}": nn.BatchNorm2d(width), f"relu{b}_{c}": nn.ReLU(inplace=True)}
            layers |= dropped | normalized if a.dropped == "filters" else normalized | dropped
            channels = width
        layers |= {f"stage{b}": nn.Identity()} if quick else {f"pool{b}": nn.MaxPool2d(2)}
    layers |= {"average": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    if quick:
        layers |= {"head_dropout": nn.Dropout(head_dropout[0]), "head": linear(a, channels, a.outputs)}
    else:
        layers |= {"head_dropout1": nn.Dropout(head_dropout[0]), "head1": linear(a, channels, channels)}
        layers |= {"head_relu": nn.ReLU(inplace=True), "head_dropout2": nn.Dropout(head_dropout[1])}
        layers |= {"head2": linear(a, channels, a.outputs)}
    return sequential(layers)
