"""Networks by name: a new one is a function (architecture) → `Network`, and a line in `NETWORKS`."""

import torch

from models import spectral_norm
from models.architecture import Architecture
from models.contract import Network, check
from models.mlp import mlp
from models.resnet import SHAPES, resnet
from models.vgg import BLOCKS, vgg

NETWORKS = dict.fromkeys(BLOCKS, vgg) | dict.fromkeys(SHAPES, resnet) | {"mlp": mlp}


def build(architecture: Architecture) -> Network:
    """A network that meets the contract (`models.contract`)."""
    a = architecture
    network = NETWORKS[a.network](a)
    blank = torch.zeros(1, a.size, a.size, a.channels)
    check(network, blank)
    if a.spectral_norm is not None:
        spectral_norm.normalize(network, a.spectral_norm, blank)
    return network
