"""How well an uncertainty agrees with the teacher's: correlation, equivalent passes, scale, baselines, noise ceiling.

The reference is sampled twice, in halves A and B of T passes each. A student, or a baseline, is correlated with each
half, and the two correlations are averaged. If students learn from the first half (an ensemble's members), the
comparison is with the second half alone.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from numpy import ndarray
from scipy.stats import rankdata
from torch import Tensor

from uncertainty.distances import SIMILARITIES, energy_distance, equivalent_by_distance, samples_of
from uncertainty.distribution import Distribution, Values, entropy, measures_of
from uncertainty.equivalent_passes import Curve, Resamples, beyond_softmax, interval, passes_curves
from uncertainty.samples import Samples

BANDS = (0.0, 0.7, 0.95, 1.0)  # of confidence
FEW = 200  # images; fewer give wide intervals
REJECTED = 0.05  # share of the images in distribution
Entries = dict[str, dict]  # of each measure or likeness


class Reference:
    """Both halves of the teacher's samples on one data set, and the correlations that fewer passes reach.

    group [N]: the mask group of each image; a group is resampled as a whole. With `fixed_samples` (an ensemble) each
    image is a group of its own, and the first half is not compared with.
    """

    def __init__(self, halves: list[Samples], group: ndarray, fixed_samples: bool, bootstrap: int, seed: int):
        compared = halves[1:] if fixed_samples else halves
        self.halves = halves
        self.seed = seed
        self.fixed_samples = fixed_samples
        self.passes = halves[0].log_probs.shape[1]
        self.resamples = Resamples(np.arange(len(group)) if fixed_samples else group, bootstrap, seed)
        self.once = Resamples(self.resamples.group, 0, 0)
        self.curves = passes_curves(halves, self.resamples, fixed_samples)
        self.measures = [measures_of(half) for half in halves]
        self.compared = self.measures[1:] if fixed_samples else self.measures
        self.together = measures_of(Samples(torch.cat([half.log_probs for half in compared], 1)))
        self.predicted = [half.predicted for half in compared]
        self.first_half = {name: similarity(*halves) for name, similarity in SIMILARITIES.items()}

    def agreement(self, student: Values) -> Entries:
        """An entry for each measure among the student's scores [N]; docs/method.md says how to read it."""
        return {name: self._entry(name, student[name]) for name in self.together if name in student}

    def _entry(self, name: str, x: ndarray) -> dict:
        pair, teacher_mean = [half[name] for half in self.compared], self.together[name].mean()
        first, second = (half[name] for half in self.measures)
        halves = correlations(self.once, first, [second])
        return {
            **correlations(self.resamples, x, pair),
            **worth(self.curves[name], self.resamples.pearson(x, pair)),
            "split_half_pearson": halves["pearson"],
            "split_half_spearman": halves["spearman"],
            "student_mean": x.mean(),
            "teacher_mean": teacher_mean,
            "scale": x.mean() / teacher_mean,
            "reference_passes": self.passes,
        }

    def baselines(self, softmax: Tensor, last_layer: Samples | None) -> Entries:
        """For each measure, the correlations of estimates that cost little or nothing, and the softmax's equivalent
        passes.

        softmax: the teacher's, without dropout [N, C]; the better one of its Gini impurity and its entropy counts.
        last_layer: samples of the teacher with dropout in its classifier alone.
        """
        p = softmax.double().cpu()
        free = [(1 - (p**2).sum(1)).numpy(), entropy(p).numpy()]
        sampled = None if last_layer is None else measures_of(last_layer)
        entries = {}
        for name in self.together:
            pair = [half[name] for half in self.compared]
            better = max((self.resamples.pearson(x, pair) for x in free), key=lambda rows: rows[0])
            entries[name] = {
                "baseline_pearson": better[0],
                "baseline": self.curves[name].equivalent(better),
                "last_layer_pearson": None if sampled is None else self.once.pearson(sampled[name], pair)[0],
            }
        return entries

    def beyond(self, student: Values, softmax: Tensor) -> Entries:
        """For each measure, the agreement in what the teacher's one softmax [N, C] does not say (`beyond_softmax`)."""
        of = beyond_softmax(softmax)
        curves = passes_curves(self.halves, self.resamples, self.fixed_samples, of)
        return self._worth_of(student, of, curves, self.resamples)

    def by_confidence(self, student: Values, softmax: Tensor) -> Entries:
        """{band: {"images": their number, measure: agreement}} of the images whose largest probability in the teacher's
        one softmax [N, C] lies in a band; bands of fewer than FEW images are left out."""
        confidence = softmax.amax(1).numpy()
        found = {}
        for low, high in pairwise(BANDS):
            chosen = (confidence > low) & (confidence <= high)
            if chosen.sum() < FEW:
                continue
            halves = [Samples(half.log_probs[chosen]) for half in self.halves]
            rows = Resamples(self.resamples.group[chosen], len(self.resamples.weights) - 1, self.seed)
            curves = passes_curves(halves, rows, self.fixed_samples)
            of_band = self._worth_of(student, lambda values, chosen=chosen: values[chosen], curves, rows)
            found[f"{low}-{high}"] = {"images": int(chosen.sum())} | of_band
        return found

    def _worth_of(
        self, student: Values, of: Callable[[ndarray], ndarray], curves: dict[str, Curve], rows: Resamples
    ) -> Entries:
        """For each measure, what a part or a function `of` the student's values [N] is worth, by the curves of the
        same."""
        return {
            name: worth(curves[name], rows.pearson(of(student[name]), [of(half[name]) for half in self.compared]))
            for name in self.together
        }

    def similarities(self, student: Distribution) -> Entries:
        """How alike class probabilities are: {name: {"student": T samples of the student, "teacher": the first half}},
        each against the second half.

        energy_distance has a third entry, `point`: the first half's mean alone, and a fourth, the student's equivalent
        passes by that distance. log_density is the mean log density of the second half's samples under the student, and
        has no entry for samples.
        """
        first, second = self.halves
        samples = samples_of(student, self.passes, self.seed)
        entries = {
            name: {"student": similarity(samples, second), "teacher": self.first_half[name]}
            for name, similarity in SIMILARITIES.items()
        }
        mean = first.mean.unsqueeze(1)
        entries["energy_distance"]["point"] = float(energy_distance(mean, second.probs).mean())
        entries["energy_distance"]["equivalent_passes"] = equivalent_by_distance(
            entries["energy_distance"]["student"], second.probs
        )
        density = student.log_density(second.log_probs)
        return entries | {"log_density": {"student": None if density is None else float(density.mean())}}

    def same_class(self, predicted: Tensor) -> float:
        """The share of images [N] on whose class student and teacher agree."""
        return np.mean([(predicted == teacher).double().mean().item() for teacher in self.predicted])


def worth(curve: Curve, pearson: ndarray) -> dict:
    """A correlation [1 + R], its interval, its equivalent passes, and the noise ceiling."""
    return {
        "pearson": pearson[0],
        "pearson_ci": interval(pearson),
        **curve.equivalent(pearson),
        "noise_ceiling": max(curve.pearson[0, -1], 0.0) ** 0.5,
    }


def correlations(resamples: Resamples, x: ndarray, others: list[ndarray]) -> dict:
    """Pearson's and Spearman's correlation of x [N] with others [N], averaged, and their intervals."""
    pearson = resamples.pearson(x, others)
    spearman = resamples.pearson(rankdata(x), [rankdata(other) for other in others])
    return {
        "pearson": pearson[0],
        "pearson_ci": interval(pearson),
        "spearman": spearman[0],
        "spearman_ci": interval(spearman),
    }


def rejected(values: dict[str, dict[str, Values]]) -> dict:
    """The shares of the images that teacher and student reject, where the teacher rejects REJECTED of the first set.

    values: {"teacher": {data set: {measure: [N]}}, "student": the same}. Returns {data set: {who: {measure: share}}}.
    """
    inside = next(iter(values["teacher"].values()))
    thresholds = {measure: np.quantile(x, 1 - REJECTED) for measure, x in inside.items()}
    return {
        name: {
            who: {measure: (sets[name][measure] > most).mean() for measure, most in thresholds.items()}
            for who, sets in values.items()
        }
        for name in values["teacher"]
    }


def calibration(student: ndarray, teacher: ndarray) -> tuple[ndarray, ndarray]:
    """The student's and the teacher's mean of an uncertainty in 20 quantile bins of the student's, at most one bin
    per input."""
    parts = np.array_split(np.argsort(student, kind="stable"), min(20, len(student)))
    return np.array([student[part].mean() for part in parts]), np.array([teacher[part].mean() for part in parts])
