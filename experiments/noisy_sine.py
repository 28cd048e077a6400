"""The one-dimensional data of regression.py and concrete_dropout.py, the likelihood of y, and predictions by passes."""

import math

import numpy as np
import torch
from torch import Tensor

from experiments.batched import Perceptrons, sample
from experiments.gaussian_regression import GaussianPrediction

NOISE = 0.04 + 0.01 * (1.5**3 - 0.4**3) / 3.3  # 1/τ: the mean variance of y where data are, E (0.2 + 0.1 x)²
GRID = torch.linspace(-2.5, 2.5, 501)
PARTS = {"expected_variance": "aleatoric", "total_variance": "epistemic"}
PLACES = {"data": "where data are", "gap": "in the gap", "beyond": "beyond the data"}


def make_data(count: int, repeats: int) -> tuple[Tensor, Tensor]:
    """x and y [repeats, count, 1]: y = sin 3x + noise; x in −1.5 to −0.4 and 0.4 to 1.5. The noise has the standard
    deviation 0.05 on the left, 0.35 on the right."""
    x = torch.empty(repeats, count, 1).uniform_(0.4, 1.5) * torch.randn(repeats, count, 1).sign()
    return x, torch.sin(3 * x) + (0.2 + 0.1 * x) * torch.randn_like(x)


def mean_and_log_variance(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Of y, both [...], from a teacher's outputs [..., 2], or [..., 1] if the noise is constant."""
    mean = outputs[..., 0]
    return mean, outputs[..., 1] if outputs.shape[-1] == 2 else torch.full_like(mean, math.log(NOISE))


def negative_log_likelihood(outputs: Tensor, y: Tensor) -> Tensor:
    """−log N(y; mean, variance) without its constant [B, N], in nats (Kendall & Gal 2017, eq. 8)."""
    mean, log_variance = mean_and_log_variance(outputs)
    return ((y[..., 0] - mean).square() * torch.exp(-log_variance) + log_variance) / 2


def predict_by_passes(networks: Perceptrons, x: Tensor, passes: int) -> GaussianPrediction:
    """The teachers' predictions [B, N] at x [N] or [B, N], by T passes."""
    samples = sample(networks, x.expand(len(networks.rates), -1).unsqueeze(-1), passes).double()
    means, log_variances = mean_and_log_variance(samples)
    return GaussianPrediction.of_samples(means.numpy(), log_variances.exp().numpy())


def means_by_place(prediction: GaussianPrediction) -> dict[str, dict]:
    """The mean of both variances of a prediction on the grid [B, N] in each place."""
    place = np.select([GRID.abs().numpy() < 0.4, GRID.abs().numpy() > 1.5], ["gap", "beyond"], "data")
    return {part: {name: getattr(prediction, part)[:, place == name].mean() for name in PLACES} for part in PARTS}
