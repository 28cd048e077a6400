"""Folded networks against the networks that they were."""

import pytest
import torch
from torch import nn

from models.architecture import Architecture
from models.folding import Halve, folded
from models.networks import build


@pytest.fixture(params=["vgg11", "resnet18", "wide_resnet28_10"])
def network(request) -> nn.Sequential:
    torch.manual_seed(0)
    network = build(Architecture(request.param, 0.05, 32, 3, 4, spectral_norm=None)).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean):
                nn.init.normal_(tensor, std=0.5)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return network


def test_a_folded_network_is_the_same_function_with_less_batch_norm(network, request):
    images = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = network(images)
        torch.testing.assert_close(folded(network)(images), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
        assert torch.equal(network(images), expected)  # the network itself is left alone

    def norms(model: nn.Module) -> int:
        return sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())

    left = {"vgg11": 0, "resnet18": 0, "wide_resnet28_10": 13}  # those before an activation that comes first
    assert norms(folded(network)) == left[request.node.callspec.params["network"]] < norms(network)


@pytest.mark.parametrize("layer", [nn.MaxPool2d(2), nn.MaxPool2d(2, padding=1), nn.MaxPool2d(3, 2), nn.MaxPool2d(2, ceil_mode=True)])
def test_pooling_is_the_same_for_odd_sizes_and_other_kinds(layer):
    x = torch.randn(2, 3, 7, 5)
    network = nn.Sequential(nn.Conv2d(3, 3, 1), layer).eval()
    assert torch.equal(folded(network)(x), network(x))
    assert isinstance(folded(network)[1], Halve) == (repr(layer) == repr(nn.MaxPool2d(2)))


def test_weights_are_cast_once_and_what_they_give_is_what_autocast_gives(network):
    images = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    cast = folded(network, torch.bfloat16)
    assert cast[-1].weight.dtype == torch.bfloat16 and network[-1].weight.dtype == torch.float32
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cast(images), folded(network)(images))
