"""Distances against loops, closed forms, SciPy and an integral, and the samples that every distribution gives for
them."""

import numpy as np
import pytest
import scipy
import torch

from uncertainty.dirichlet import Dirichlet
from uncertainty.distances import energy_distance, equivalent_by_distance, rv_coefficient, within
from uncertainty.gaussian import LogitGaussian


def test_the_density_of_a_dirichlet_is_scipys():
    alpha = np.array([[0.4, 1.0, 2.0], [10.0, 3.0, 0.5]])
    p = np.random.default_rng(0).dirichlet([1, 1, 1], size=(2, 5))
    expected = [scipy.stats.dirichlet.logpdf(rows.T, a).mean() for rows, a in zip(p, alpha)]
    found = Dirichlet(torch.from_numpy(alpha)).log_density(torch.from_numpy(p).log())
    assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("scale", [None, torch.tensor([[0.3, 0.4, 0.2]])])
def test_the_density_of_a_logit_gaussian_is_one_of_the_simplex(scale):
    """It integrates to 1, and to its own mean, over the triangle of three classes."""
    given = [torch.tensor([[0.2, -0.3, 0.1]]), torch.tensor([[[0.8, 0.1], [0.2, 0.6], [-0.4, 0.3]]])]
    given += [] if scale is None else [scale]
    steps = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    x, y = torch.cartesian_prod(steps, steps).T
    p = torch.stack([x, (1 - x) * y, (1 - x) * (1 - y)], -1)
    many = LogitGaussian(*(tensor.expand(len(p), *tensor.shape[1:]) for tensor in given))
    weight = many.log_density(p.log().unsqueeze(1)).exp() * (1 - x) / len(p)
    assert weight.sum().item() == pytest.approx(1, abs=1e-3)
    assert (weight @ p).numpy() == pytest.approx(LogitGaussian(*given).mean[0].numpy(), abs=5e-3)


def test_the_distance_is_that_of_all_pairs():
    p, q = torch.rand(3, 4, 5), torch.rand(3, 6, 5)
    inside = [torch.stack([torch.pdist(z).mean() for z in samples]) for samples in (p, q)]
    expected = 2 * torch.cdist(p, q).mean((1, 2)) - sum(inside)
    torch.testing.assert_close(energy_distance(p, q), expected, rtol=1e-4, atol=1e-5)
    point = q[:, :1]  # one sample is certain
    expected = 2 * torch.cdist(p, point).mean((1, 2)) - inside[0]
    torch.testing.assert_close(energy_distance(p, point), expected, rtol=1e-4, atol=1e-5)


def test_the_rv_coefficient_compares_directions_of_covariances():
    a, b = torch.randn(2, 3, 50, 4, dtype=torch.float64)
    for first, second, found in zip(a, b, rv_coefficient(a, b)):
        s, t = first.T.cov(), second.T.cov()
        torch.testing.assert_close(found, (s @ t).trace() / ((s @ s).trace() * (t @ t).trace()).sqrt())
    left, right = a * torch.tensor([1, 1, 0, 0]), a * torch.tensor([0, 0, 1, 1])
    for other, expected in ((3 * left, 1.0), (right, 0.0), (0 * a, 0.0)):
        assert rv_coefficient(left, other).tolist() == pytest.approx([expected] * 3)


@pytest.mark.parametrize("passes", [3, 20])
def test_samples_of_n_passes_are_worth_n_by_energy_distance(passes):
    """Their distance from the distribution, as samples that are all that there is: each is a pair with itself too."""
    torch.manual_seed(0)
    alpha = torch.rand(2000, 4) * 3 + 0.2
    few, p, q = (torch.distributions.Dirichlet(alpha).sample((n,)).transpose(0, 1) for n in (passes, 100, 100))
    distance = 2 * torch.cdist(few, q).mean((1, 2)) - within(few) * (1 - 1 / passes) - within(q)
    assert equivalent_by_distance(distance.mean().item(), p) == pytest.approx(passes, rel=0.05)
    assert equivalent_by_distance(-1e-9, p) is None
