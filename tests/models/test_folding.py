"""Folded networks against the networks that they were."""

import pytest
import torch
from torch import nn

from configs.errors import UserError
from models.architecture import Architecture
from models.folding import MaxPool2x2, folded
from models.networks import build


def trained(name: str, scale: tuple[float, float] = (0.5, 1.5), **options: bool) -> nn.Sequential:
    """A network whose batch norms are not the identity; `scale`: the range of their weights."""
    torch.manual_seed(0)
    network = build(Architecture(name, 0.125, 32, 3, 4, 0.1, **options)).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low_high in (
                (layer.weight, scale),
                (layer.bias, (-0.5, 0.5)),
                (layer.running_mean, (-0.5, 0.5)),
            ):
                nn.init.uniform_(tensor, *low_high)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return network


def kinds(network: nn.Module) -> list[type]:
    return [type(layer) for layer in network.modules()]


@pytest.mark.parametrize("dtype, error", [(torch.float32, 1e-4), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("network, pools, left", [
    (trained("vgg11", (-1.0, 1.0)), 5, 0), (trained("resnet18", (-1.0, 1.0)), 0, 0),
    (trained("vgg7", whiten=True), 3, 0), (trained("vgg7", (-1.0, 1.0), whiten=True), 0, 3),
])  # fmt: skip
def test_a_folded_network_is_the_same_function_with_less_batch_norm(network, pools, left, dtype, error):
    """vgg7 pools before its batch norms, which is the same if no scale is negative."""
    images = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        expected, fast = network(images), folded(network, dtype)
        assert (fast(images) - expected).norm() < error * expected.norm()
        assert torch.equal(network(images), expected)  # the network itself is left alone
    assert kinds(fast).count(nn.BatchNorm2d) == left and kinds(fast).count(MaxPool2x2) == pools


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
