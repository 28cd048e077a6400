"""Temperature scaling (Guo et al. 2017): one number, fitted on validation images, that calibrates the probabilities."""

import math

import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor


def tempered(probs: Tensor, temperature: float) -> Tensor:
    """softmax(log p / T) [N, C]. For p = softmax(z) this is softmax(z / T) (eq. 9); for the mean of a distribution it
    is the analogue."""
    return (probs.clamp_min(1e-12).log() / temperature).softmax(-1)


def fit_temperature(probs: Tensor, labels: Tensor) -> float:
    """The T > 0 that maximizes the likelihood of labels [N] under `tempered` probabilities [N, C], from 0.001 to 1000;
    1 if no T is better than 1."""
    log_probs = probs.double().clamp_min(1e-12).log()

    def loss(log_t: float) -> float:
        return F.cross_entropy(log_probs / math.exp(log_t), labels).item()

    best = minimize_scalar(loss, bounds=(-7, 7), method="bounded", options={"xatol": 1e-6})
    return math.exp(best.x) if best.fun < loss(0.0) else 1.0
