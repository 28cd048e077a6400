"""MC-dropout of any network, against a loop that is written here."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from configs.errors import UserError
from speed.speed import KINDS, SIZE, Everything, warmed
from uncertainty.any_network import PlainLoop, sampler_of
from uncertainty.mc_dropout import Plan, samples_of

T, N = 250, 6
REFUSED = {
    "dropout never called": "nothing in this network is random: no dropout with p > 0 was called",
    "a buffer that changes": "the passes change calls, a buffer of the network",
}


def independent(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Probabilities [N, T, C] of a plain loop that knows these networks: everything trains but batch norm."""
    for module in network.modules():
        module.training = not isinstance(module, nn.BatchNorm2d)
    torch.manual_seed(1)
    with torch.no_grad():  # all passes as one batch: whatever is random is so for each image
        return network(images.repeat(T, 1, 1, 1)).softmax(1).view(T, N, -1).transpose(0, 1)


@pytest.mark.parametrize("name", [name for name in KINDS if not name.startswith(("VGG", "ResNet"))])
def test_samples_have_the_moments_of_a_plain_loop(name):
    network, images = warmed(KINDS[name]), torch.randn(N, 3, SIZE, SIZE)
    if name in REFUSED:
        with pytest.raises(UserError, match=REFUSED[name]):
            samples_of(sampler_of(network), images, Plan(2, "grouped", 3, (0, "test")))
        return
    ours = samples_of(sampler_of(network), images, Plan(T, "independent", 3, (0, "test"))).log_probs.exp()
    theirs = independent(network, images)
    error = ((ours.var(1) + theirs.var(1)) / T).sqrt().clamp_min(1e-6)
    assert ((ours.mean(1) - theirs.mean(1)).abs() / error).max() < 5
    assert theirs.var(1).sum() > 0.003 and ours.var(1).sum() / theirs.var(1).sum() == pytest.approx(1, abs=0.15)


class InTraining(nn.Module):
    """Its dropout is called in training alone, and its attention has none."""

    def __init__(self):
        super().__init__()
        self.body, self.drop, self.last = nn.Linear(8, 12), nn.Dropout(0.5), nn.Linear(4, 5)

    def forward(self, x):
        q, k, v = self.body(x[:, 0]).chunk(3, -1)
        x = nn.functional.scaled_dot_product_attention(q, k, v).mean(1)
        return self.last(self.drop(x) if self.training else x)


def test_stratified_passes_of_a_dropout_that_is_called_in_training_alone():
    torch.manual_seed(0)
    sampler, images = sampler_of(InTraining()), torch.randn(N, 3, 8, 8)
    plain, blocks = (samples_of(sampler, images, Plan(256, "independent", 3, (0, "test"), b)) for b in (0, 16))
    assert blocks.block == 16 and sampler.random == ["drop"]
    assert (blocks.total_variance / plain.total_variance).mean().item() == pytest.approx(1, abs=0.1)


class Hidden(nn.Module):
    """Its dropout is seen; what a function does before it depends on the case."""

    def __init__(self, first):
        super().__init__()
        self.first, self.other, self.drop, self.last = first, nn.Dropout(0.5), nn.Dropout(0.5), nn.Linear(192, 5)

    def forward(self, x):
        return self.last(self.drop(self.first(self, x.flatten(1))))


HIDDEN = {
    "called as dropout.forward": lambda network, x: network.other.forward(x),
    "by Python or numpy": lambda network, x: x * random.random() if network.training else x,
    "numbers by Python or numpy": lambda network, x: x * np.random.rand() if network.training else x,
    "depend on the other images": lambda network, x: (
        nn.functional.dropout(x, 0.1, network.training) / (x.std() if network.training else 1)
    ),
}


@pytest.mark.parametrize("said", HIDDEN)
def test_randomness_that_cannot_be_sampled_rightly_is_refused(said):
    sampler, images = PlainLoop(Hidden(HIDDEN[said])), torch.randn(N, 3, 8, 8)
    with pytest.raises(UserError, match=said):
        samples_of(sampler, images, Plan(2, "grouped", N, (0, "test")))


def test_samples_depend_on_the_plan_alone():
    network, images = Everything().eval(), torch.randn(N, 3, 8, 8)
    plan = Plan(3, "grouped", 5, (0, "test"))
    state = torch.random.get_rng_state()
    first, again = (samples_of(PlainLoop(network), images, plan).log_probs for _ in range(2))
    assert torch.equal(first, again) and torch.equal(torch.random.get_rng_state(), state)
    groups = plan.groups(N)
    (_, indices, alone), *_ = PlainLoop(network)(lambda i: images[i], groups[1:2], plan)  # as after an interruption
    assert torch.equal(alone.log_probs, first[indices])
    assert not network.training and not network.norm.training


def test_a_network_without_dropout_and_masks_that_are_functions_are_refused():
    images = torch.randn(N, 3, 8, 8)
    with pytest.raises(UserError, match="no dropout with a rate above 0"):
        sampler_of(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)))
    with pytest.raises(UserError, match="masks: function needs"):
        samples_of(sampler_of(Everything()), images, Plan(3, "function", 5, (0, "test")))
