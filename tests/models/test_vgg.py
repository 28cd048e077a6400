"""The first layer and the first weights of a quick VGG."""

import pytest
import torch
from torch import nn

from models.architecture import Architecture, Whiten
from models.folding import MaxPool2x2, folded
from models.networks import build


def vgg7(whiten: bool) -> nn.Sequential:
    return build(Architecture("vgg7", 0.125, 32, 3, 4, 0.1, 0.5, whiten=whiten)).eval()


def test_whitened_patches_are_uncorrelated_and_of_unit_variance():
    torch.manual_seed(0)
    images = nn.Conv2d(3, 3, 3)(torch.randn(50, 3, 18, 18)).detach()  # neighbours depend on each other
    layer = Whiten(3)
    layer.fit(images, smallest=0.0)
    outputs = layer(images).movedim(1, 3).flatten(0, 2)
    torch.testing.assert_close(outputs[:, :12].T @ outputs[:, :12] / len(outputs), torch.eye(12), atol=1e-3, rtol=0)
    assert torch.equal(outputs[:, 12:], -outputs[:, :12]) and not layer.weight.requires_grad
    layer.fit(torch.ones(2, 3, 4, 4))  # one of twelve directions has a variance: 12; the others are not blown up
    assert layer.weight.flatten(1).norm(dim=1).max().item() < 1 / 5e-4**0.5 + 1e-3


@pytest.mark.parametrize("dtype, error", [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_pooling_before_batch_norm_is_folded_if_no_scale_is_negative(dtype, error):
    torch.manual_seed(0)
    network = vgg7(whiten=True)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        fast = folded(network, dtype)
        kinds = [type(layer) for layer in fast]
        assert nn.BatchNorm2d not in kinds and nn.MaxPool2d not in kinds and kinds.count(MaxPool2x2) == 3
        assert (fast(images) - network(images)).norm() < error * network(images).norm()
        network.norm2_1.weight.data[0] *= -1
        assert [type(layer) for layer in folded(network, dtype)].count(nn.BatchNorm2d) == 1
        assert (folded(network, dtype)(images) - network(images)).norm() < error * network(images).norm()
