"""How well an uncertainty agrees with the teacher's: correlation, equivalent passes and scale, with floors and limits.

The reference is sampled twice, in halves A and B of T passes each. A student, or a floor, is correlated with each half,
and the two correlations are averaged. If students learn from the first half (an ensemble's members), the comparison is
one-way: with the second half alone.
"""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from scipy.stats import rankdata
from torch import Tensor

from uncertainty.distribution import Distribution, entropy, measures_of
from uncertainty.equivalent_passes import Resamples, interval, passes_curves
from uncertainty.judges import energy_distance, judged, samples_of
from uncertainty.samples import Samples


class Reference:
    """Both halves of the teacher's samples on one data set, and the correlations that fewer passes reach.

    group [N]: the mask group of each image; a group is resampled as a whole. In an ensemble (one_way) each image is a
    group of its own.
    """

    def __init__(self, halves: list[Samples], group: ndarray, one_way: bool, bootstrap: int, seed: int):
        against = halves[1:] if one_way else halves
        self.passes = halves[0].log_probs.shape[1]
        self.resamples = Resamples(np.arange(len(group)) if one_way else group, bootstrap, seed)
        self.once = Resamples(self.resamples.group, 0, 0)
        self.curves = passes_curves(halves, self.resamples, one_way)
        self.halves = [measures_of(half) for half in halves]
        self.against = self.halves[1:] if one_way else self.halves
        self.whole = measures_of(Samples(torch.cat([half.log_probs for half in against], 1)))
        self.predicted = [half.predicted for half in against]
        self.samples = halves
        self.seed = seed

    def judge(self, student: dict[str, ndarray]) -> dict[str, dict[str, Any]]:
        """The entry of `agreement` in metrics.json for each measure among the student's scores [N]; docs/method.md says
        how to read it."""
        entries = {}
        for name, x in ((name, student[name]) for name in self.whole if name in student):
            first, second = (half[name] for half in self.halves)
            pair = [half[name] for half in self.against]
            pearson = self.resamples.pearson(x, pair)
            spearman = self.resamples.pearson(rankdata(x), [rankdata(half) for half in pair])
            entries[name] = {
                "pearson": float(pearson[0]),
                "pearson_ci": interval(pearson),
                **self.curves[name].equivalent(pearson),
                "spearman": float(spearman[0]),
                "spearman_ci": interval(spearman),
                "repeatability_pearson": float(self.once.pearson(first, [second])[0]),
                "repeatability_spearman": float(self.once.pearson(rankdata(first), [rankdata(second)])[0]),
                "limit_pearson": float(max(self.curves[name].pearson[0, -1], 0.0) ** 0.5),
                "student_mean": float(x.mean()),
                "teacher_mean": float(self.whole[name].mean()),
                "scale": float(x.mean() / self.whole[name].mean()),
                "reference_passes": self.passes,
            }
        return entries

    def floors(self, deterministic: Tensor, head: Samples | None) -> dict[str, dict[str, float | None]]:
        """The floors of each measure: the correlations of estimates that cost little or nothing.

        deterministic: the teacher's softmax without dropout [N, C]; the better one of its Gini impurity and its entropy
        counts. head: samples of the teacher with dropout in its head alone.
        """
        p = deterministic.double().cpu()
        free = [(1 - (p**2).sum(1)).numpy(), entropy(p).numpy()]
        heads = None if head is None else measures_of(head)
        entries = {}
        for name in self.whole:
            pair = [half[name] for half in self.against]
            entries[name] = {
                "floor_pearson": float(max(self.once.pearson(floor, pair)[0] for floor in free)),
                "floor_head_pearson": None if heads is None else float(self.once.pearson(heads[name], pair)[0]),
            }
        return entries

    def judges(self, student: Distribution) -> dict[str, dict[str, float | None]]:
        """{judge: {"student": of T samples of the student, "teacher": of the first half}}, each against the second
        half.

        energy_distance has a third entry, `point`: the first half's mean alone. log_density is the mean log density of
        the second half's samples under the student, and has no entry for samples.
        """
        second = self.samples[1]
        found = judged(samples_of(student, self.passes, self.seed), second)
        entries = {name: {"student": found[name]} | self.judged_passes[name] for name in found}
        density = student.log_density(second.log_probs)
        return entries | {"log_density": {"student": None if density is None else float(density.mean())}}

    @cached_property
    def judged_passes(self) -> dict[str, dict[str, float | None]]:
        """The first half's entries of `judges`: the same for every student."""
        first, second = self.samples
        entries: dict[str, dict[str, float | None]] = {
            name: {"teacher": value} for name, value in judged(first, second).items()
        }
        entries["energy_distance"]["point"] = float(energy_distance(first.mean.unsqueeze(1), second.probs).mean())
        return entries

    def same_class(self, predicted: Tensor) -> float:
        """The share of images [N] on whose class student and teacher agree."""
        return float(np.mean([(predicted == theirs).double().mean().item() for theirs in self.predicted]))


def rejected(
    teacher: dict[str, dict[str, ndarray]], student: dict[str, dict[str, ndarray]], share: float = 0.05
) -> dict[str, Any]:
    """The shares of the images that teacher and student reject at the threshold where the teacher rejects `share` of
    the first set.

    teacher, student: {data set: {measure: [N]}}. Returns {measure: {data set: {"teacher": share, "student": share}}}.
    """
    first = next(iter(teacher))
    found: dict[str, Any] = {}
    for measure, values in teacher[first].items():
        threshold = np.quantile(values, 1 - share)
        found[measure] = {
            name: {
                who: float((by_set[name][measure] > threshold).mean())
                for who, by_set in (("teacher", teacher), ("student", student))
            }
            for name in teacher
        }
    return found


def calibration(student: ndarray, teacher: ndarray, bins: int = 20) -> tuple[ndarray, ndarray]:
    """The student's and the teacher's mean of an uncertainty in `bins` quantile bins of the student's, at most one bin
    per input."""
    parts = np.array_split(np.argsort(student, kind="stable"), min(bins, len(student)))
    return np.array([student[part].mean() for part in parts]), np.array([teacher[part].mean() for part in parts])


def with_humans(
    human_entropy: ndarray, measures: dict[str, ndarray], resamples: Resamples
) -> dict[str, dict[str, Any]]:
    """Pearson and Spearman of the entropy of people's labels [N] with each measure [N], with intervals."""
    entries = {}
    for name, x in measures.items():
        pearson, spearman = (
            resamples.pearson(x, [human_entropy]),
            resamples.pearson(rankdata(x), [rankdata(human_entropy)]),
        )
        entries[name] = {
            "pearson": float(pearson[0]),
            "pearson_ci": interval(pearson),
            "spearman": float(spearman[0]),
            "spearman_ci": interval(spearman),
        }
    return entries
