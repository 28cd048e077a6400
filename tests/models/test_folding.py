"""Folded networks against the networks that they were."""

import pytest
import torch
from torch import nn

from configs.errors import UserError
from models.architecture import Architecture
from models.folding import MaxPool2x2, folded
from models.networks import build


@pytest.fixture(params=["vgg11", "resnet18"])
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
        torch.testing.assert_close(
            folded(network)(images), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item()
        )
        assert torch.equal(network(images), expected)  # the network itself is left alone

    def norms(model: nn.Module) -> int:
        return sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())

    left = {"vgg11": 0, "resnet18": 0}
    assert norms(folded(network)) == left[request.node.callspec.params["network"]] < norms(network)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "layer", [nn.MaxPool2d(2), nn.MaxPool2d(2, padding=1), nn.MaxPool2d(3, 2), nn.MaxPool2d(2, ceil_mode=True)]
)
def test_pooling_and_relu_are_the_same_for_odd_sizes_and_other_kinds(layer, dtype):
    x = torch.randn(2, 3, 7, 5).to(dtype, memory_format=torch.channels_last)
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True), nn.Dropout(0.5), layer).to(dtype).eval()
    with torch.inference_mode():
        assert torch.equal(folded(network, dtype)(x), network(x))
    assert isinstance(folded(network)[3], MaxPool2x2) == (repr(layer) == repr(nn.MaxPool2d(2)))


def test_what_would_be_silently_wrong_is_an_error():
    network = build(Architecture("vgg5", 0.125, 8, 3, 4)).eval()
    with pytest.raises(ValueError, match="too small"), torch.inference_mode():
        folded(network)(torch.zeros(1, 4, 4, 3))
    network.norm1_1.running_var.fill_(-1)
    with pytest.raises(UserError, match="not finite"):
        folded(network)
