"""Each layer's moments against Monte Carlo, and a whole network against what can be computed exactly."""

import pytest
import torch
from torch import nn

from uncertainty.mc_dropout import Plan, Sampler
from uncertainty.variance_propagation import MOMENTS, propagate


def trained_norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        tensor.uniform_(0.5, 2.0)
    return norm.eval()


LAYERS = [
    nn.Conv2d(3, 5, 3, padding=1, bias=False),
    trained_norm(3),
    nn.ReLU(),
    nn.Dropout(0.3),
    nn.AdaptiveAvgPool2d(1),
]


def moments_and_draws(layer: nn.Module, mean: torch.Tensor, variance: torch.Tensor):
    """The layer's rule for mean and variance [1, C, H, W], and what many Gaussian inputs become."""
    draws = mean + variance.sqrt() * torch.randn(40_000, *mean.shape[1:], generator=torch.Generator().manual_seed(1))
    outputs = layer.train()(draws) if isinstance(layer, nn.Dropout) else layer(draws)
    return MOMENTS[type(layer)](layer.eval(), mean, variance), (
        outputs.mean(0, keepdim=True),
        outputs.var(0, keepdim=True),
    )


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
@torch.no_grad()
def test_moments_are_those_of_many_draws(layer):
    generator = torch.Generator().manual_seed(0)
    mean, variance = torch.randn(1, 3, 4, 4, generator=generator), torch.rand(1, 3, 4, 4, generator=generator)
    torch.testing.assert_close(*moments_and_draws(layer, mean, variance), atol=0.03, rtol=0.04)


@torch.no_grad()
def test_dropout_before_a_linear_layer_is_exact():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(6, 4)).eval()
    x = torch.randn(3, 6)
    gaussian = propagate(network, x)
    torch.testing.assert_close(gaussian.loc, network(x))
    for row, factor in zip(x, gaussian.factor):
        expected = network[2].weight @ torch.diag(0.3 / 0.7 * row**2) @ network[2].weight.T
        torch.testing.assert_close(factor @ factor.T, expected, atol=1e-6, rtol=1e-4)


@torch.no_grad()
def test_where_activations_are_independent_it_is_near_the_samples():
    """Eight hidden units, each with two hundred inputs of its own."""
    torch.manual_seed(0)
    hidden, last = nn.Linear(1600, 8), nn.Linear(8, 3)
    hidden.weight.copy_(torch.block_diag(*(torch.randn(1, 200) / 10 for _ in range(8))))
    nn.init.normal_(last.weight)
    network = nn.Sequential(nn.Dropout(0.3), hidden, nn.ReLU(), last).eval()
    x = torch.randn(4, 1600)
    plan = Plan(20_000, "independent", 4, (0, "test"))
    _, indices, samples = next(Sampler(network)(lambda indices: x[indices], plan.groups(4), plan))
    gaussian = propagate(network, x[indices])
    centre = torch.eye(3) - 1 / 3  # a softmax keeps all of the logits but their mean
    logits, factor = samples.log_probs @ centre, centre @ gaussian.factor
    torch.testing.assert_close(gaussian.loc @ centre, logits.mean(1), atol=0.02, rtol=0.02)
    for drawn, row in zip(logits, factor):
        torch.testing.assert_close(row @ row.T, drawn.T.cov(), atol=0.02, rtol=0.05)
