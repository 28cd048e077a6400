"""Temperature scaling (Guo et al. 2017): one number, fitted on validation images, that calibrates the probabilities."""

import torch
import torch.nn.functional as F
from torch import Tensor


def tempered(probs: Tensor, temperature: float) -> Tensor:
    """softmax(log p / T) [N, C]. For p = softmax(z) this is softmax(z / T) (eq. 9); for the mean of a distribution it
    is the analogue."""
    return (probs.clamp_min(1e-12).log() / temperature).softmax(-1)


def fit_temperature(probs: Tensor, labels: Tensor) -> float:
    """The T > 0 that maximizes the likelihood of labels [N] under `tempered` probabilities [N, C], by L-BFGS on log T;
    1 if no T is better than 1."""
    log_probs = probs.double().clamp_min(1e-12).log()
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        return F.cross_entropy(log_probs / log_t.exp(), labels)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    before = loss().item()
    optimizer.step(closure)
    with torch.no_grad():
        return log_t.exp().item() if loss().item() < before else 1.0
