"""Each layer's moments against Monte Carlo, and a whole network against what can be computed exactly."""

import pytest
import torch
from torch import nn

from configs.errors import UserError
from models.folding import folded
from uncertainty.mc_dropout import Plan, Sampler, samples_of
from uncertainty.variance_propagation import LINEARIZED, MOMENTS, layer_scales, propagate

NORM = nn.BatchNorm2d(3).eval()
for tensor in (NORM.weight.data, NORM.bias.data, NORM.running_mean, NORM.running_var):
    tensor.uniform_(0.5, 2.0)
LAYERS = [nn.Conv2d(3, 5, 3, padding=1, bias=False), NORM, nn.ReLU(), nn.Dropout(0.3), nn.AdaptiveAvgPool2d(1)]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
@torch.no_grad()
def test_moments_are_those_of_many_draws(layer):
    torch.manual_seed(0)
    mean, variance = torch.randn(1, 3, 4, 4), torch.rand(1, 3, 4, 4)
    draws = mean + variance.sqrt() * torch.randn(40_000, 3, 4, 4)
    outputs = layer.train()(draws) if isinstance(layer, nn.Dropout) else layer(draws)
    expected = outputs.mean(0, keepdim=True), outputs.var(0, keepdim=True)
    torch.testing.assert_close(MOMENTS[type(layer)](layer.eval(), mean, variance), expected, atol=0.03, rtol=0.04)


@torch.no_grad()
def test_where_activations_are_independent_it_is_near_the_samples():
    """Eight hidden units, each with two hundred inputs of its own."""
    torch.manual_seed(0)
    hidden, last = nn.Linear(1600, 8), nn.Linear(8, 3)
    hidden.weight.copy_(torch.block_diag(*(torch.randn(1, 200) / 10 for _ in range(8))))
    nn.init.normal_(last.weight)
    network = nn.Sequential(nn.Dropout(0.3), hidden, nn.ReLU(), last).eval()
    x = torch.randn(4, 1600)
    samples, gaussian = (
        samples_of(Sampler(network), x, Plan(20_000, "independent", 4, (0, "test"))),
        propagate(network, x),
    )
    centre = torch.eye(3) - 1 / 3  # a softmax keeps all of the logits but their mean
    logits, factor = samples.log_probs @ centre, centre @ gaussian.factor
    torch.testing.assert_close(gaussian.loc @ centre, logits.mean(1), atol=0.02, rtol=0.02)
    for drawn, row in zip(logits, factor):
        torch.testing.assert_close(row @ row.T, drawn.T.cov(), atol=0.02, rtol=0.05)


def deep_network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 6, 3, padding=1), nn.Dropout(0.3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 3)).eval().requires_grad_(False)


def test_linearized_it_is_the_covariance_of_the_networks_jacobian():
    """With one dropout layer there is nothing between independent units and a linear map: J D Jᵀ is exact."""
    torch.manual_seed(0)
    x = torch.randn(1, 2, 8, 8)
    only = nn.Sequential(nn.Dropout(0.3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * 16, 3)).eval()
    jacobian = torch.func.jacrev(only)(x).reshape(3, -1)
    exact = jacobian @ torch.diag(0.3 / 0.7 * x.flatten() ** 2) @ jacobian.T
    factor = propagate(only, x, LINEARIZED).factor[0]
    torch.testing.assert_close(factor @ factor.T, exact, atol=1e-5, rtol=1e-4)


def test_with_its_scales_every_layers_variance_is_that_of_samples():
    network, x = deep_network(), torch.randn(16, 2, 8, 8)
    torch.manual_seed(1)
    scales = layer_scales(network, x, 500)
    assert len(scales) == len(network) - 1 and scales[0] == pytest.approx(1, abs=0.03)  # a dropout's is exact
    sampled = torch.stack([network.train()(x) for _ in range(2000)]).var(0).sum().item()
    network.eval()
    found = {given: propagate(network, x, scales=of).factor.square().sum() for given, of in ((1, scales), (0, None))}
    assert found[1].item() == pytest.approx(sampled, rel=0.03)
    assert found[0].item() != pytest.approx(sampled, rel=0.03)


@torch.inference_mode()
def test_the_scales_of_a_folded_network_are_those_of_the_network():
    """In inference mode and bfloat16, a folded network's pooling of negative numbers is another one's."""
    network, x = deep_network(), torch.randn(32, 2, 8, 8)
    network[3].bias.fill_(-0.5)  # so that all four can be negative
    network[5] = nn.ReLU(inplace=True)  # before which it is folded
    torch.manual_seed(1)
    expected = layer_scales(network, x, 300)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer_scales(folded(network), x, 300)[3:5] == pytest.approx(expected[3:5], rel=0.1)


def test_more_classes_than_features_have_a_covariance_and_other_pooling_is_refused():
    torch.manual_seed(0)
    many = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 200).requires_grad_(False)).eval()
    many[1].weight.mul_(10)
    x = torch.randn(20, 64)
    factor = propagate(many, x).factor.double()
    expected = (many[1].weight.double() * x.square().unsqueeze(1)) @ many[1].weight.double().T
    torch.testing.assert_close(factor @ factor.mT, expected, atol=1e-3, rtol=1e-4)
    pooled = nn.Sequential(nn.Dropout(0.5), nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(9, 2)).eval()
    with pytest.raises(UserError, match=r"does not support MaxPool2d\(kernel_size=3, stride=2"):
        propagate(pooled, torch.randn(1, 1, 7, 7))
