"""The measures against arbitrary precision, scipy and Monte Carlo."""

import math

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch

from uncertainty.dirichlet import Dirichlet
from uncertainty.distribution import MEASURES, entropy
from uncertainty.gaussian import LogitGaussian
from uncertainty.samples import Samples

ALPHAS = [
    [1.0, 1.0, 1.0],
    [1e-3] * 10,
    [1e6] * 10,
    [1e6, 1e-3],
    [1e6] + [1e-3] * 9,
    [1e-3, 1.0, 1e3, 1e6],
    [31.9, 32.1, 5.0],
    [0.3, 2.5, 0.01, 7.0, 100.0],
]


def exact(alpha: list[float]) -> dict[str, float]:
    """Every measure at 60 digits, from the textbook formulas."""
    with mpmath.workdps(60):
        a = np.array([mpmath.mpf(x) for x in alpha])
        a0 = a.sum()
        m = a / a0
        predictive = -sum(x * mpmath.log(x) for x in m)
        expected = sum(x * (mpmath.digamma(a0 + 1) - mpmath.digamma(a0 * x + 1)) for x in m)
        variance = (m * (1 - m)).sum() / (a0 + 1)
        values = {
            "predictive_entropy": predictive,
            "expected_entropy": expected,
            "mutual_information": predictive - expected,
            "total_variance": variance,
            "entropy_minus_variance": predictive - variance,
            "precision": a0,
            "max_probability": max(m),
        }
        return {name: float(value) for name, value in values.items()}


@pytest.mark.parametrize("alpha", ALPHAS, ids=str)
def test_dirichlet_is_exact_over_nine_orders_of_magnitude(alpha):
    dirichlet = Dirichlet(torch.tensor([alpha], dtype=torch.float64))
    for name, value in exact(alpha).items():
        assert getattr(dirichlet, name).item() == pytest.approx(value, rel=1e-6, abs=0), name


def test_certain_samples_have_no_uncertainty_and_no_nan():
    log_probs = torch.tensor([0.0, -math.inf, -math.inf]).expand(2, 5, 3)
    samples = Samples(log_probs)
    for name in (*MEASURES, "variation_ratio"):
        assert getattr(samples, name).tolist() == [0.0, 0.0], name


def test_the_mutual_information_of_nearly_certain_samples_is_not_negative():
    """In float32 the two entropies differ by rounding alone, either way."""
    torch.manual_seed(0)
    logits = 0.01 * torch.randn(500, 20, 10) + 12 * torch.eye(10)[0]
    for of in (Samples(logits.log_softmax(-1)), LogitGaussian(logits[:, 0], 0.01 * torch.randn(500, 10, 3))):
        assert (of.predictive_entropy < of.expected_entropy).any() and of.mutual_information.min() == 0


def test_the_entropy_of_a_probability_that_underflows_has_a_gradient():
    logits = torch.tensor([[0.0, -110.0, -2.0]], requires_grad=True)
    entropy(logits.softmax(-1)).sum().backward()
    p = logits.detach().double().softmax(-1)
    exact = -p * (p.clamp_min(1e-300).log() + (-(p * p.clamp_min(1e-300).log())).sum())  # dH/dz = −p (log p + H)
    torch.testing.assert_close(logits.grad.double(), exact, rtol=1e-4, atol=1e-9)


def test_samples_against_numpy_and_scipy():
    p = np.random.default_rng(0).dirichlet([0.5, 1, 2, 0.2], size=(6, 7))
    samples = Samples(torch.from_numpy(np.log(p)))
    predictive, expected = scipy.stats.entropy(p.mean(1), axis=-1), scipy.stats.entropy(p, axis=-1).mean(1)
    variance = p.var(1, ddof=1).sum(1)
    for name, value in {
        "predictive_entropy": predictive,
        "expected_entropy": expected,
        "mutual_information": predictive - expected,
        "total_variance": variance,
        "entropy_minus_variance": predictive - variance,
        "variation_ratio": 1 - scipy.stats.mode(p.argmax(2), axis=1).count / 7,
    }.items():
        assert getattr(samples, name).numpy() == pytest.approx(value, rel=1e-9), name
