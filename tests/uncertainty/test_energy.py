"""The energy distance against loops and closed forms, and the samples that every distribution gives for it."""

import numpy as np
import pytest
import torch

from uncertainty.dirichlet import Dirichlet
from uncertainty.energy import energy_distance, probabilities
from uncertainty.gaussian import LogitGaussian
from uncertainty.point import Point
from uncertainty.samples import Samples


def test_the_distance_is_that_of_all_pairs():
    p, q = torch.rand(3, 4, 5), torch.rand(3, 6, 5)
    for n in range(3):
        a, b = p[n].numpy(), q[n].numpy()
        between = np.mean([np.linalg.norm(x - y) for x in a for y in b])
        inside = [np.mean([np.linalg.norm(x - y) for i, x in enumerate(z) for j, y in enumerate(z) if i != j]) for z in (a, b)]
        assert energy_distance(p, q)[n].item() == pytest.approx(2 * between - sum(inside), rel=1e-4)
    point = q[:, :1]
    expected = 2 * (p - point).norm(dim=-1).mean(1) - energy_distance(p, point).new_tensor(
        [torch.pdist(z).mean().item() for z in p]
    )  # one sample is certain
    torch.testing.assert_close(energy_distance(p, point), expected, rtol=1e-4, atol=1e-5)


def test_the_estimate_is_unbiased_and_finds_another_spread_at_the_same_mean():
    """In one dimension the distance of N(0, 1) from N(0, s²) is 2 (√(2(1 + s²)) − 1 − s) / √π."""
    torch.manual_seed(0)
    p, q, wide = torch.randn(4000, 8, 1), torch.randn(4000, 12, 1), 3 * torch.randn(4000, 12, 1)
    assert energy_distance(p, q).mean().item() == pytest.approx(0, abs=0.01)
    assert energy_distance(p, wide).mean().item() == pytest.approx(2 * (20**0.5 - 4) / np.pi**0.5, rel=0.03)


@pytest.mark.parametrize("distribution", [
    Dirichlet(torch.tensor([[0.4, 1.0, 2.0], [10.0, 3.0, 0.5]])),
    LogitGaussian(torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), torch.eye(3).expand(2, 3, 3)),
    LogitGaussian(torch.zeros(2, 3), torch.zeros(2, 3, 1), torch.ones(2, 3)),
])  # fmt: skip
def test_samples_have_the_distributions_moments(distribution):
    p = probabilities(distribution, 40_000, 0)
    assert p.shape == (2, 40_000, 3)
    torch.testing.assert_close(p.mean(1), distribution.mean, rtol=0.02, atol=0.01)
    torch.testing.assert_close(p.var(1).sum(-1), distribution.total_variance, rtol=0.05, atol=0.005)
    assert torch.equal(p, probabilities(distribution, 40_000, 0))
    assert distribution.draws == (0 if isinstance(distribution, Dirichlet) else 256)


def test_samples_that_are_there_are_taken():
    samples, point = Samples(torch.randn(2, 7, 3).log_softmax(-1)), Point(torch.randn(2, 3))
    torch.testing.assert_close(probabilities(samples, 5, 0), samples.probs[:, :5])
    torch.testing.assert_close(probabilities(point, 5, 0), point.mean.unsqueeze(1))
    assert samples.draws == 7 and point.draws == 0
