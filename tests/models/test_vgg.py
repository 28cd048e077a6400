"""The first layer of a quick VGG."""

import torch
from torch import nn

from models.architecture import Whiten


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
