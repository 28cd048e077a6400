"""Regression's uncertainty against Monte Carlo and integrals."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from experiments.gaussian_regression import GaussianPrediction, mixture_log_likelihood

RNG = np.random.default_rng(0)


def test_variances_of_parts_add_up_to_that_of_draws():
    means, variances = RNG.normal([[0.0], [2.0]], [[1.0], [0.3]], (2, 200_000)), RNG.gamma(2.0, 0.3, (2, 200_000))
    prediction = GaussianPrediction.of_samples(means, variances)
    drawn = RNG.normal(means, np.sqrt(variances))
    assert prediction.total_variance == pytest.approx([1.0, 0.09], rel=0.02)
    assert prediction.expected_variance == pytest.approx(0.6, rel=0.02)
    assert prediction.predictive_variance == pytest.approx(drawn.var(1), rel=0.02)
    assert prediction.mean == pytest.approx(drawn.mean(1), abs=0.01)


def test_the_score_of_a_gaussian_is_the_integral_of_squares():
    y, mean, s = 0.7, 0.2, 1.3
    integral = quad(lambda x: (norm.cdf(x, mean, s) - (x >= y)) ** 2, -15, 15, points=[y])[0]
    prediction = GaussianPrediction(np.array([mean]), np.array([s**2 - 1.0]), np.array([1.0]))
    assert prediction.crps(np.array([y]))[0] == pytest.approx(integral, abs=1e-6)
    assert prediction.log_likelihood(np.array([y]))[0] == pytest.approx(norm.logpdf(y, mean, s))


def test_intervals_of_the_right_gaussian_cover_what_they_say():
    y = RNG.normal(1.0, 2.0, 50_000)
    one = np.ones(len(y))
    right = GaussianPrediction(one, one, 3 * one)
    for level in (0.5, 0.9, 0.95):
        assert right.covers(y, level).mean() == pytest.approx(level, abs=0.01)


def test_a_mixture_has_the_mean_density():
    means, y = RNG.normal(size=(3, 4)), RNG.normal(size=3)
    expected = np.log(norm.pdf(y[:, None], means, 0.5).mean(1))
    assert mixture_log_likelihood(y, means, 0.25) == pytest.approx(expected)
