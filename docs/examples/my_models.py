"""Networks of other people with dropout in their blocks: see docs/own_networks.md."""

from functools import partial

import torch
import torchvision
from torch import nn


def dropped(blocks: nn.Sequential, rate: float) -> None:
    """Put dropout behind each block."""
    for i, block in enumerate(blocks):
        blocks[i] = nn.Sequential(block, nn.Dropout(rate))


def make_mobilenet(classes: int = 10, dropout: float = 0.05) -> nn.Module:
    """torchvision's MobileNetV3 (small). Its batch norm averages over some hundred steps, which a small set of images
    does not have."""
    network = torchvision.models.mobilenet_v3_small(
        num_classes=classes, norm_layer=partial(nn.BatchNorm2d, eps=1e-3, momentum=0.1)
    )
    dropped(network.features, dropout)
    return network


def make_resnet18(classes: int = 10, dropout: float = 0.1) -> nn.Module:
    """torchvision's ResNet-18."""
    network = torchvision.models.resnet18(num_classes=classes)
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        dropped(stage, dropout)
    return network


def make_pretrained(classes: int, weights: str = "DEFAULT", dropout: float = 0.1) -> nn.Module:
    """torchvision's ResNet-18 with the weights that it learned from ImageNet, for photos of other classes.

    weights: DEFAULT (torchvision downloads its own once), or a file with the same network's state_dict.
    """
    network = torchvision.models.resnet18(weights="DEFAULT" if weights == "DEFAULT" else None)
    if weights != "DEFAULT":
        network.load_state_dict(torch.load(weights, weights_only=True))
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        dropped(stage, dropout)
    network.fc = nn.Linear(network.fc.in_features, classes)
    return network


def make_vit(classes: int = 10, dropout: float = 0.1) -> nn.Module:
    """torchvision's vision transformer, small enough for 8x8 images of one channel."""
    network = torchvision.models.VisionTransformer(
        8, 2, 4, 4, 64, 128, dropout=dropout, attention_dropout=dropout, num_classes=classes
    )
    network.conv_proj = nn.Conv2d(1, 64, 2, 2)
    return network
