"""Networks by name: a new one is a function (architecture) → `nn.Sequential`, and a line in `NETWORKS`."""

import torch
from torch import nn

from models import spectral_norm
from models.architecture import Architecture
from models.mlp import mlp
from models.resnet import SHAPES, resnet
from models.vgg import BLOCKS, vgg

NETWORKS = dict.fromkeys(BLOCKS, vgg) | dict.fromkeys(SHAPES, resnet) | {"mlp": mlp}
BLOCK_ENDS = ("pool", "stage", "hidden")  # how the names of the layers begin whose outputs a student's perceptron sees


def build(architecture: Architecture) -> nn.Sequential:
    """Images [N, H, W, C] in 0-255 → logits [N, outputs]."""
    a = architecture
    network = NETWORKS[a.network](a)
    if a.spectral_norm is not None:
        spectral_norm.normalize(network, a.spectral_norm, torch.zeros(1, a.size, a.size, a.channels))
    return network
