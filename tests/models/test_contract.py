"""The contract of a network: those of this project meet it, and one that breaks it is told which rule."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from models.architecture import Architecture
from models.contract import Network, check
from models.networks import NETWORKS, build

IMAGES = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_meets_it(name):
    check(build(Architecture(name, 0.125, 32, 3, 4, 0.1, 0.5 if name.startswith("vgg") else 0.0)).eval(), IMAGES)


class Doubled(Network):
    """Its classifier is not the last step."""

    def forward(self, images):
        return 2 * super().forward(images)


class Blind(Network):
    """It has no features."""

    def features(self, images):
        return [], super().features(images)[1]


@pytest.mark.parametrize(
    "kind, said", [(nn.Sequential, "Sequential has no `features`"), (Doubled, "rule 4"), (Blind, "rule 3")]
)
def test_a_network_that_breaks_it_is_told_how(kind, said):
    layers = OrderedDict(build(Architecture("vgg5", 0.125, 32, 3, 4)).named_children())
    check(Network(layers), IMAGES)
    with pytest.raises(TypeError, match=said):
        check(kind(layers), IMAGES)
