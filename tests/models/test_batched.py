"""Batched perceptrons against single ones, and dropout's moments in closed form."""

import numpy as np
import pytest
import torch

from models import batched
from models.batched import Perceptrons


def test_samples_have_the_moments_of_dropout(monkeypatch):
    """One unit without a nonlinearity: y = w m₁ m₂ x with independent masks of variance p / (1 − p)."""
    monkeypatch.setattr(batched, "CHUNK", 1000)
    networks = Perceptrons([1, 1, 1], torch.tensor([0.0, 0.2]))
    for weight in networks.weights:
        torch.nn.init.constant_(weight, 2.0)
    x = torch.tensor([[[1.0], [3.0]]]).expand(2, 2, 1)
    samples = batched.sample(networks, x, 20_000)[..., 0]
    assert samples.shape == (2, 2, 20_000) and torch.equal(samples[0], 4 * x[0].expand(-1, 20_000))
    assert samples[1].mean(1).numpy() == pytest.approx([4, 12], rel=0.03)
    assert samples[1].var(1).numpy() == pytest.approx(np.array([16, 144]) * (1.25**2 - 1), rel=0.05)
