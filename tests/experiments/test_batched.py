"""Batched perceptrons against single ones, and dropout's moments in closed form."""

import copy

import numpy as np
import pytest
import torch

from experiments import batched
from experiments.batched import Perceptrons


def test_networks_that_are_trained_at_once_do_not_touch_each_other():
    torch.manual_seed(0)
    x, y = torch.randn(2, 50, 3), torch.randn(2, 50, 1)
    both, alone = (Perceptrons([3, 5, 1], torch.zeros(count)) for count in (2, 1))
    alone.load_state_dict({name: value[1:] for name, value in both.state_dict().items()})
    loss, decay = (lambda outputs, targets: (outputs - targets).square().squeeze(-1)), torch.tensor([0.5, 0.01])
    free = copy.deepcopy(both)
    batched.fit(free, x, y, loss, 30, falls=False)
    batched.fit(both, x, y, loss, 30, decay, falls=False)
    batched.fit(alone, x[1:], y[1:], loss, 30, decay[1:], falls=False)
    for weight, without_decay in zip(both.weights, free.weights, strict=True):
        assert weight[0].norm() < without_decay[0].norm()  # a decay of 0.5
    second = {name: value[1:] for name, value in both.state_dict().items()}
    torch.testing.assert_close(second, dict(alone.state_dict()), rtol=1e-4, atol=1e-5)


def test_samples_have_the_moments_of_dropout(monkeypatch):
    """One unit without a nonlinearity: y = w m₁ m₂ x with independent masks of variance p / (1 − p)."""
    monkeypatch.setattr(batched, "CHUNK", 1000)
    networks = Perceptrons([1, 1, 1], torch.tensor([0.0, 0.2]), drop_inputs=True)
    for weight in networks.weights:
        torch.nn.init.constant_(weight, 2.0)
    x = torch.tensor([[[1.0], [3.0]]]).expand(2, 2, 1)
    samples = batched.sample(networks, x, 20_000)[..., 0]
    assert samples.shape == (2, 2, 20_000) and torch.equal(samples[0], 4 * x[0].expand(-1, 20_000))
    assert samples[1].mean(1).numpy() == pytest.approx([4, 12], rel=0.03)
    assert samples[1].var(1).numpy() == pytest.approx(np.array([16, 144]) * (1.25**2 - 1), rel=0.05)
