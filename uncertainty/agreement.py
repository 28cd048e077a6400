"""How far a student's uncertainty is the teacher's: correlations, their intervals, and what other estimates would reach.

The reference is sampled twice, in halves A and B of T passes each. Whatever is compared with the teacher, a student or a floor,
is correlated with each half, and the two correlations are averaged.
"""

import numpy as np
import torch
from numpy import ndarray
from scipy.stats import pearsonr, rankdata
from torch import Tensor

from uncertainty.distribution import MEASURES, Distribution, entropy
from uncertainty.samples import Samples

PASSES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 50, 70, 100)  # where the correlation of N passes is measured
ENTROPIES = ("predictive_entropy", "expected_entropy")  # the measures that one pass gives


def measures_of(distribution: Distribution) -> dict[str, ndarray]:
    """Every measure [N] of a distribution, as float64 arrays."""
    return {name: getattr(distribution, name).double().cpu().numpy() for name in MEASURES}


def pearson(x: ndarray, halves: list[ndarray]) -> float:
    """The correlation of x [N] with each half [N], averaged; NaN if one of them is constant."""
    return float(np.mean([pearsonr(x, half)[0] if np.ptp(x) and np.ptp(half) else np.nan for half in halves]))


def spearman(x: ndarray, halves: list[ndarray]) -> float:
    """The rank correlation of x [N] with each half [N], averaged."""
    return pearson(rankdata(x), [rankdata(half) for half in halves])


def bootstrap_pearson(x: ndarray, halves: list[ndarray], group: ndarray, resamples: int, seed: int) -> list[float]:
    """95% percentile interval of `pearson` over resamples of whole mask groups [N], whose errors are correlated.

    A correlation is a function of six sums, so a resample only weighs the groups' sums. For Spearman give ranks: they are those of
    the whole set in every resample.
    """
    if np.isnan(pearson(x, halves)):
        return [np.nan, np.nan]
    rng = np.random.default_rng(seed)
    names, group = np.unique(group, return_inverse=True)
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples).astype(float)
    values = []
    for half in halves:
        a, b = (x - x.mean()) / x.std(), (half - half.mean()) / half.std()
        sums = np.stack([np.bincount(group, w) for w in (np.ones_like(a), a, b, a * a, b * b, a * b)], 1)
        n, sa, sb, saa, sbb, sab = (weights @ sums).T
        values.append((n * sab - sa * sb) / np.sqrt((n * saa - sa**2) * (n * sbb - sb**2)))
    return np.quantile(np.mean(values, 0), [0.025, 0.975]).tolist()


def agreement(
    student: Distribution, halves: list[Samples], deterministic: Tensor, group: ndarray, resamples: int, seed: int
) -> dict:
    """One data set's entry of `agreement` in metrics.json; see the README for how to read it.

    deterministic: the teacher's softmax without dropout [N, C]; its Gini impurity and its entropy cost nothing: they are the floor.
    """
    mine = measures_of(student)
    theirs = [measures_of(half) for half in halves]
    p = deterministic.double().cpu()
    free = [(1 - (p**2).sum(1)).numpy(), entropy(p).numpy()]
    entry = {"same_class": float(np.mean([(student.predicted == half.predicted).double().mean().item() for half in halves]))}
    for name in MEASURES:
        x, pair = mine[name], [values[name] for values in theirs]
        ranks = rankdata(x), [rankdata(half) for half in pair]
        entry[name] = {
            "pearson": pearson(x, pair),
            "pearson_ci": bootstrap_pearson(x, pair, group, resamples, seed),
            "spearman": spearman(x, pair),
            "spearman_ci": bootstrap_pearson(*ranks, group, resamples, seed),
            "repeatability_pearson": pearson(pair[0], pair[1:]),
            "repeatability_spearman": spearman(pair[0], pair[1:]),
            "floor_pearson": max(pearson(floor, pair) for floor in free),
            "student_mean": float(x.mean()),
            "teacher_mean": float(np.mean(pair)),
            "reference_passes": halves[0].log_probs.shape[1],
        }
    return entry


def passes_curve(halves: list[Samples], draws: int = 3) -> dict[str, dict[str, list[float]]]:
    """For each measure, the correlation of an N-pass estimate from one half with the other half, both directions averaged.

    Each N below T is drawn `draws` times, passes without replacement. Returns {measure: {"passes": [...], "pearson": [...]}}.
    """
    total = halves[0].log_probs.shape[1]
    generator = torch.Generator().manual_seed(0)
    full = [measures_of(half) for half in halves]
    curve = {name: {"passes": [], "pearson": []} for name in MEASURES}
    for count in [n for n in PASSES if n < total] + [total]:
        found = {name: [] for name in (MEASURES if count > 1 else ENTROPIES)}
        for _ in range(draws if count < total else 1):
            for half, other in ((0, 1), (1, 0)):
                chosen = torch.randperm(total, generator=generator)[:count]
                few = Samples(halves[half].log_probs[:, chosen])
                for name in found:
                    values = getattr(few, name).double().cpu().numpy()
                    found[name].append(pearson(values, [full[other][name]]))
        for name, values in found.items():
            curve[name]["passes"].append(count)
            curve[name]["pearson"].append(float(np.mean(values)))
    return curve
