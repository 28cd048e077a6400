"""The teacher on one data set, ready to be compared with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from data.dataset import Dataset
from uncertainty.cache import SampleCache
from uncertainty.distribution import measures_of
from uncertainty.worth import Resamples, interval, passes_curves


class Reference:
    """Both halves of the teacher's samples, and what fewer passes reach.

    one_way: students are made of the first half, as an ensemble's are; they are compared with the second alone, and images resampled one
    by one.
    """

    def __init__(self, cache: SampleCache, dataset: Dataset, one_way: bool = False):
        halves, group = cache.reference(dataset)
        config = cache.config
        self.dataset = dataset
        self.resamples = Resamples(np.arange(len(group)) if one_way else group, config.evaluation.bootstrap, config.seed)
        self.curves = passes_curves(halves, self.resamples, one_way)
        self.halves = [measures_of(half) for half in halves]
        self.against = self.halves[1:] if one_way else self.halves

    def judge(self, student: dict[str, ndarray], measures: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Correlation, worth and scale of each of `measures`."""
        found = {}
        for name in measures:
            pair = [half[name] for half in self.against]
            pearson = self.resamples.pearson(student[name], pair)
            worth = self.curves[name].worth(pearson)
            scale = student[name].mean() / np.mean(pair)
            found[name] = {"pearson": pearson[0], "pearson_ci": interval(pearson), **worth, "scale": scale}
        return found
