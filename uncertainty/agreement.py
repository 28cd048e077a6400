"""How far a student's uncertainty is the teacher's: correlation, worth, scale, and what frames them.

The reference is sampled twice, in halves A and B of T passes each. Whatever is compared with the teacher, a student or a floor,
is correlated with each half, and the two correlations are averaged. Where students are made of the first half (an ensemble's members),
one way: with the second half alone.
"""

from typing import Any

import numpy as np
import torch
from numpy import ndarray
from scipy.stats import rankdata
from torch import Tensor

from uncertainty.distribution import MEASURES, Distribution, entropy, measures_of
from uncertainty.samples import Samples
from uncertainty.worth import Curve, Resamples, interval


def agreement(
    student: Distribution,
    halves: list[Samples],
    deterministic: Tensor,
    head: Samples | None,
    curves: dict[str, Curve],
    family: dict[str, dict[str, float]] | None,
    resamples: Resamples,
    one_way: bool = False,
) -> dict[str, Any]:
    """One data set's entry of `agreement` in metrics.json; the README says how to read it.

    deterministic: the teacher's softmax without dropout [N, C]; its Gini impurity and its entropy cost nothing: they are the floor. head:
    the teacher with dropout in its head alone, the other floor. family: the limit of the student's family of distributions, if it is of
    one.
    """
    against = halves[1:] if one_way else halves
    mine, whole = measures_of(student), measures_of(Samples(torch.cat([half.log_probs for half in against], 1)))
    theirs = [measures_of(half) for half in halves]
    heads = None if head is None else measures_of(head)
    p = deterministic.double().cpu()
    free = [(1 - (p**2).sum(1)).numpy(), entropy(p).numpy()]
    once = Resamples(resamples.group, 0, 0)
    entry = {"same_class": float(np.mean([(student.predicted == half.predicted).double().mean().item() for half in against]))}
    for name in MEASURES:
        x, both = mine[name], [values[name] for values in theirs]
        pair = both[-len(against) :]
        ranks = rankdata(x), [rankdata(half) for half in pair]
        pearson, spearman = resamples.pearson(x, pair), resamples.pearson(*ranks)
        entry[name] = {
            "pearson": float(pearson[0]),
            "pearson_ci": interval(pearson),
            **curves[name].worth(pearson),
            "spearman": float(spearman[0]),
            "spearman_ci": interval(spearman),
            "repeatability_pearson": float(once.pearson(both[0], both[1:])[0]),
            "repeatability_spearman": float(once.pearson(rankdata(both[0]), [rankdata(both[1])])[0]),
            "limit_pearson": float(max(curves[name].pearson[0, -1], 0.0) ** 0.5),
            "family_limit_pearson": None if family is None else family[name]["limit_pearson"],
            "floor_pearson": float(max(once.pearson(floor, pair)[0] for floor in free)),
            "floor_head_pearson": None if heads is None else float(once.pearson(heads[name], pair)[0]),
            "student_mean": float(x.mean()),
            "teacher_mean": float(whole[name].mean()),
            "scale": float(x.mean() / whole[name].mean()),
            "reference_passes": halves[0].log_probs.shape[1],
        }
    return entry


def calibration(student: ndarray, teacher: ndarray, bins: int = 20) -> tuple[ndarray, ndarray]:
    """Mean of an uncertainty by student and by teacher in `bins` quantile bins of the student's, or one for each input of fewer."""
    parts = np.array_split(np.argsort(student, kind="stable"), min(bins, len(student)))
    return np.array([student[part].mean() for part in parts]), np.array([teacher[part].mean() for part in parts])


def with_humans(human_entropy: ndarray, measures: dict[str, ndarray], resamples: Resamples) -> dict[str, dict[str, Any]]:
    """Pearson and Spearman of the entropy of people's labels [N] with each measure [N], with intervals."""
    found = {}
    for name, x in measures.items():
        pearson, spearman = resamples.pearson(x, [human_entropy]), resamples.pearson(rankdata(x), [rankdata(human_entropy)])
        found[name] = {
            "pearson": float(pearson[0]),
            "pearson_ci": interval(pearson),
            "spearman": float(spearman[0]),
            "spearman_ci": interval(spearman),
        }
    return found
