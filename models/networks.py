"""Networks by name, or from outside (`models.external`): a new one is a function (architecture) → `Network`, a line in
`NETWORKS`, and its name in `configs.schema.Network`."""

import torch

from models import external, spectral_norm
from models.architecture import Architecture
from models.contract import Network, check
from models.mlp import mlp
from models.resnet import resnet18
from models.vgg import BLOCKS, vgg
from training.bar import note
from training.external import digest_of_code, file_of, is_external

NETWORKS = dict.fromkeys(BLOCKS, vgg) | {"resnet18": resnet18, "mlp": mlp}


def build(a: Architecture) -> Network:
    """A network that meets the contract (`models.contract`). Prints a line if the file of an external network has
    changed since the training."""
    if is_external(a.network):
        if a.digest not in (None, digest_of_code(a.network)):
            note(f"{file_of(a.network)} has changed since the network of this run was made with it")
        return external.make(a)
    network, blank = NETWORKS[a.network](a), torch.zeros(1, *a.shape)
    check(network, blank)
    if a.spectral_norm is not None:
        spectral_norm.normalize(network, a.spectral_norm, blank)
    return network
