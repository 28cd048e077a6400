"""The first layer and the first weights of a quick VGG."""

import torch
from torch import nn

from configs.schema import Teacher
from models.architecture import Architecture, Whiten, start_as_identity
from models.networks import build
from train_teacher import parameter_groups


def vgg8(whiten: bool) -> nn.Sequential:
    return build(Architecture("vgg8", 0.125, 32, 3, 4, 0.1, 0.5, whiten=whiten)).eval()


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


def test_layers_begin_by_passing_on_what_they_are_given():
    network = vgg8(whiten=True)
    start_as_identity(network)
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    x = network[: list(dict(network.named_children())).index("conv1_1")](images)
    whitened = network.conv1_1(x)[:, :8]  # of eight channels; the input has 24
    torch.testing.assert_close(whitened, x[:, :8])
    torch.testing.assert_close(network.head1(torch.eye(32)), torch.eye(32) + network.head1.bias)
    assert torch.equal(network(images), torch.zeros(2, 4))
    assert not any(p.requires_grad for name, p in network.named_parameters() if name.startswith("norm") and name.endswith("weight"))


def test_each_part_has_its_learning_rate():
    network = vgg8(whiten=True)
    groups = parameter_groups(network, Teacher(lr=0.5, bias_lr=8.0, head_lr=0.25, weight_decay=1e-3))
    lrs = {id(p): (group.get("lr", 0.5), group["weight_decay"]) for group in groups for p in group["params"]}
    expected = {"conv2_1.weight": (0.5, 1e-3), "head1.weight": (0.5, 1e-3), "norm1_1.bias": (8.0, 0.0), "head2.weight": (0.25, 1e-3)}
    assert {name: lrs[id(network.get_parameter(name))] for name in expected} == expected
    assert id(network.whiten.weight) not in lrs and len(lrs) == len(list(network.parameters())) - 1
