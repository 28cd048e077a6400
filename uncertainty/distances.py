"""How alike two sets of samples of class probabilities are, by measures that no student is trained on."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from training.seeds import seed_of
from uncertainty.distribution import Distribution
from uncertainty.samples import Samples

CHUNK = 256  # images whose distances are in memory at once


def in_chunks(of: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of two sets of samples, of CHUNK images at once."""
    return lambda p, q: torch.cat([of(*pair) for pair in zip(p.split(CHUNK), q.split(CHUNK))])


@in_chunks
def energy_distance(p: Tensor, q: Tensor) -> Tensor:
    """2 E‖p − q‖ − E‖p − p'‖ − E‖q − q'‖ ≥ 0 for each image, from samples p [N, S, C] and q [N, T, C]. Returns [N].

    It is 0 only if the distributions are equal (Székely & Rizzo 2013, eq. 5). The estimate is unbiased, so it can fall
    below 0. One sample alone is taken as certain.
    """
    return 2 * torch.cdist(p, q).mean((1, 2)) - within(p) - within(q)


def within(p: Tensor) -> Tensor:
    """E‖p − p'‖ of two different samples, for each image."""
    count = p.shape[1]
    return torch.cdist(p, p).sum((1, 2)) / max(1, count * (count - 1))


def equivalent_by_distance(distance: float, p: Tensor) -> float | None:
    """The number of passes whose samples have this energy distance (mean over images) from the teacher's distribution,
    with samples p [N, T, C]; None for a distance that is not positive.

    N samples of a distribution are at the expected distance E‖p − p'‖ / N from it: with theirs in the place of p,
    2 E‖p − q‖ has the same mean, and E‖p − p'‖ has the factor 1 − 1/N, as a sample is its own pair.
    """
    spread = torch.cat([within(part) for part in p.split(CHUNK)]).mean()
    return float(spread / distance) if distance > 0 else None


@in_chunks
def rv_coefficient(p: Tensor, q: Tensor) -> Tensor:
    """tr(ΣΣ') / (‖Σ‖ ‖Σ'‖) of the classes' covariances Σ of samples p [N, S, C] and Σ' of q [N, T, C] (Escoufier 1973).
    Returns [N].

    It is 1 if the probabilities vary in the same directions, whatever the size, and 0 if they vary in other ones, or
    not at all.
    """
    left, right = (x.mT @ x for x in ((x - x.mean(1, keepdim=True)).double() for x in (p, q)))
    norms = left.flatten(1).norm(dim=1) * right.flatten(1).norm(dim=1)
    return (left * right).sum((1, 2)) / norms.clamp_min(torch.finfo(torch.double).tiny)


def samples_of(distribution: Distribution, count: int, seed: int) -> Samples:
    """`count` samples of a distribution; fewer if it has no more."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "judges"))  # the name of an earlier version: the same samples
        p = distribution.sample(count).float()
    return Samples(p.clamp_min(torch.finfo(p.dtype).tiny).log())


def _variation_ratio(p: Samples, q: Samples) -> float | None:
    pair = np.stack([samples.variation_ratio.double().numpy() for samples in (p, q)])
    return float(np.corrcoef(pair)[0, 1]) if np.ptp(pair, 1).all() else None


SIMILARITIES = {
    "energy_distance": lambda p, q: float(energy_distance(p.probs, q.probs).mean()),
    "covariance": lambda p, q: float(rv_coefficient(p.probs, q.probs).mean()),
    "variation_ratio": _variation_ratio,
}
"""(samples, samples) → the mean energy distance and RV coefficient over the images; Pearson's correlation of the
variation ratios over the images, None if one of them is constant."""
