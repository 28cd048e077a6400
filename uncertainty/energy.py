"""The energy distance between two distributions of class probabilities: a judge that no student is trained on."""

import torch
from torch import Tensor

from training.seeds import seed_of
from uncertainty.distribution import Distribution

CHUNK = 256  # images whose distances are in memory at once


def energy_distance(p: Tensor, q: Tensor) -> Tensor:
    """2 E‖p − q‖ − E‖p − p'‖ − E‖q − q'‖ ≥ 0 for each image, from samples p [N, S, C] and q [N, T, C]. Returns [N].

    It is 0 only if the distributions are equal (Székely & Rizzo 2013, eq. 5). The estimate is unbiased, so it can fall below 0. One sample
    alone is taken as certain.
    """
    parts = []
    for a, b in zip(p.split(CHUNK), q.split(CHUNK)):
        parts.append(2 * torch.cdist(a, b).mean((1, 2)) - within(a) - within(b))
    return torch.cat(parts)


def within(p: Tensor) -> Tensor:
    """E‖p − p'‖ of two different samples, for each image."""
    count = p.shape[1]
    return torch.cdist(p, p).sum((1, 2)) / max(1, count * (count - 1))


def probabilities(distribution: Distribution, count: int, seed: int) -> Tensor:
    """`count` samples of the class probabilities [N, count, C]; fewer if the distribution has no more."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "energy"))
        return distribution.sample(count).float()
