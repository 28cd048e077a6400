"""The yardstick: how many passes of the teacher is an estimate of its uncertainty worth?

The reference is sampled twice, in halves of T passes each. What N passes from one half reach against the other half is the curve c(N);
a student's correlation with the halves, read off that curve, is its worth. Everything is computed for the data themselves (row 0) and
for each resample of whole mask groups (the rows after it), so that an interval covers the error of student and curve together.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy import ndarray

from uncertainty.distribution import MEASURES, measures_of
from uncertainty.samples import Samples

PASSES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 50, 70, 100)
ENTROPIES = ("predictive_entropy", "expected_entropy")  # the measures that one pass gives
DRAWS = 3  # sets of N passes taken from each half


class Resamples:
    """How often each mask group counts: once each in row 0, at random (with replacement) in `count` rows after it.

    Images that shared masks have correlated errors, so groups [N] are resampled whole.
    """

    def __init__(self, group: ndarray, count: int, seed: int):
        names, self.group = np.unique(group, return_inverse=True)
        equal = np.full(len(names), 1 / len(names))
        drawn = np.random.default_rng(seed).multinomial(len(names), equal, size=count)
        self.weights = np.concatenate([np.ones((1, len(names))), drawn])

    def pearson(self, x: ndarray, halves: list[ndarray]) -> ndarray:
        """The correlation of x [N] with each half [N], averaged, in each row; NaN if one of them is constant.

        A correlation is a function of six sums, so a row only weighs the groups' sums. For Spearman give ranks: they stay those of the
        whole set in every row.
        """
        values = []
        for half in halves:
            if not np.ptp(x) or not np.ptp(half):
                return np.full(len(self.weights), np.nan)
            a, b = (x - x.mean()) / x.std(), (half - half.mean()) / half.std()
            sums = np.stack([np.bincount(self.group, w) for w in (np.ones_like(a), a, b, a * a, b * b, a * b)], 1)
            n, sa, sb, saa, sbb, sab = (self.weights @ sums).T
            with np.errstate(divide="ignore", invalid="ignore"):  # a resample of one group alone can be constant
                values.append((n * sab - sa * sb) / np.sqrt((n * saa - sa**2) * (n * sbb - sb**2)))
        return np.mean(values, 0)


def interval(rows: ndarray) -> list[float]:
    """The 95% percentile interval over the resamples (all rows but the first) in which the number is defined."""
    defined = rows[1:][~np.isnan(rows[1:])]
    return np.quantile(defined, [0.025, 0.975]).tolist() if len(defined) else [np.nan, np.nan]


@dataclass(frozen=True)
class Curve:
    """What N passes reach, in each row: passes [K], pearson [1 + R, K], made monotone in N."""

    passes: ndarray
    pearson: ndarray

    def worth(self, student: ndarray) -> dict[str, float | list[float] | None]:
        """The passes that `student` [1 + R], its correlation in each row, is worth, interpolated in log N.

        Outside the curve `worth_passes` is None and `worth_above` (its end) or `worth_below` (its start) is given instead; in the interval
        such rows count as its end and as 0.
        """
        first, last = self.passes[[0, -1]]
        rows = np.array([np.exp(np.interp(x, curve, np.log(self.passes), left=-np.inf)) for x, curve in zip(student, self.pearson)])
        above, below = student[0] > self.pearson[0, -1], student[0] < self.pearson[0, 0]
        return {
            "worth_passes": None if above or below else float(rows[0]),
            "worth_ci": interval(rows),
            "worth_above": int(last) if above else None,
            "worth_below": int(first) if below else None,
        }


def counted_worth(entry: dict) -> float:
    """The worth as a number for means: what is above the curve counts as its end, what is below it as 0."""
    return entry["worth_passes"] or entry["worth_above"] or 0.0


def passes_curves(halves: list[Samples], resamples: Resamples, one_way: bool = False) -> dict[str, Curve]:
    """c(N) of each measure: estimates from N passes of one half, drawn DRAWS times, with the whole other half, both ways averaged.

    one_way: of the first half with the second alone.
    """
    total = halves[0].log_probs.shape[1]
    generator = torch.Generator().manual_seed(0)
    full = [measures_of(half) for half in halves]
    passes = [n for n in PASSES if n < total] + [total]
    found = {name: [] for name in MEASURES}
    for count in passes:
        draws = {name: [] for name in (MEASURES if count > 1 else ENTROPIES)}
        for _ in range(DRAWS if count < total else 1):
            for half, other in ((0, 1), (1, 0))[: 1 if one_way else 2]:
                chosen = torch.randperm(total, generator=generator)[:count]
                few = Samples(halves[half].log_probs[:, chosen])
                for name, rows in draws.items():
                    rows.append(resamples.pearson(getattr(few, name).double().numpy(), [full[other][name]]))
        for name, rows in draws.items():
            found[name].append(np.mean(rows, 0))
    return {
        name: Curve(np.array(passes[-len(rows) :]), np.maximum.accumulate(np.stack(rows, 1), 1)) for name, rows in found.items()
    }
