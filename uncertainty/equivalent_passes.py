"""The yardstick: how many passes of the teacher is an estimate of its uncertainty worth? (After the deep-ensemble equivalent of Ashukha
et al. 2020, arXiv 2002.06470.)

The reference is sampled twice, in halves of T passes each. What N passes of one half reach against the other half is the curve c(N). Over
the images, an unbiased estimate from N passes has the variance V + E/N, where V is the truth's. So its correlation obeys

    1 / c(N)² = a (1 + k / N),                                                                                              (1)

a straight line in 1/N. A student's correlation c is worth N = a k / (1/c² − a) passes. Everything is computed for the data themselves (row
0) and for each resample of whole mask groups (the rows after it), so that an interval covers the error of student and curve together.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy import ndarray

from uncertainty.distribution import MEASURES, measures_of
from uncertainty.samples import Samples

PASSES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 50, 70, 100)
# From so many passes on (1) is fitted: from 8 on, it gave 184 to 301 for 300 passes of known Dirichlets; from 16 on, 253 to 318.
STRAIGHT = 16
REACH = 4  # times T: as far as (1) is trusted beyond the curve's end
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
    """What N passes reach, in each row: passes [K], pearson [1 + R, K]."""

    passes: ndarray
    pearson: ndarray

    @cached_property
    def line(self) -> tuple[ndarray, ndarray]:
        """a [1 + R] and a k [1 + R] of (1), by least squares over N ≥ 16, or over all N where the curve has no two such points."""
        chosen = self.passes >= STRAIGHT
        if chosen.sum() < 2:
            chosen = np.full(len(self.passes), True)
        u, y = 1 / self.passes[chosen], self.pearson[:, chosen].clip(1e-3) ** -2.0
        weight = self.passes[chosen] ** 2 / (self.passes[chosen] ** 2).sum()  # what many passes reach is known better
        u_mean, y_mean = (weight * u).sum(), (weight * y).sum(1)
        slope = (weight * (u - u_mean) * (y - y_mean[:, None])).sum(1) / (weight * (u - u_mean) ** 2).sum()
        return y_mean - slope * u_mean, slope

    @property
    def residual(self) -> float:
        """The largest error of (1) in N, relative, at the points to which it is fitted."""
        chosen = self.passes >= STRAIGHT if (self.passes >= STRAIGHT).sum() > 1 else self.passes > 0
        a, slope = (value[0] for value in self.line)
        with np.errstate(divide="ignore", invalid="ignore"):
            fitted = slope / (self.pearson[0, chosen].clip(1e-3) ** -2.0 - a)
        return float(np.abs(fitted / self.passes[chosen] - 1).max())

    def equivalent(self, student: ndarray) -> dict[str, Any]:
        """Entries `equivalent_passes`, `equivalent_passes_ci` and `censored`, of `student` [1 + R], its correlation in each row.

        What is beyond 4T counts as 4T: `censored` says so of row 0. A constant has None.
        """
        end = REACH * float(self.passes[-1])
        with np.errstate(divide="ignore", invalid="ignore"):
            a, slope = self.line
            gap = student.clip(1e-3) ** -2.0 - a
            rows = np.where(gap > slope / end, slope / gap, end)
        few = rows < STRAIGHT  # below, the measured points say more than the line
        rows[few] = [_between(c, self.passes, curve) for c, curve in zip(student[few], self.pearson[few])]
        rows[np.isnan(student)] = np.nan
        return {
            "equivalent_passes": None if np.isnan(rows[0]) else float(rows[0]),
            "equivalent_passes_ci": interval(rows),
            "censored": bool(rows[0] >= end),
        }


def _between(c: float, passes: ndarray, curve: ndarray) -> float:
    """N of a correlation by the points of a curve, between which (1) holds; below the first of them N falls to 0 with the correlation."""
    curve = np.maximum.accumulate(curve.clip(1e-3))
    if c <= curve[0]:
        return float(passes[0] * max(c, 0.0) / curve[0])
    return float(1 / np.interp(-(c**-2.0), -(curve**-2.0), 1 / passes))


def passes_curves(halves: list[Samples], resamples: Resamples, one_way: bool = False) -> dict[str, Curve]:
    """c(N) of each measure: estimates from N passes of one half, drawn DRAWS times, with the whole other half, both ways averaged.

    one_way: of the first half with the second alone.
    """
    total = halves[0].log_probs.shape[1]
    generator = torch.Generator().manual_seed(0)
    full = [measures_of(half) for half in halves]
    passes = [n for n in PASSES if n < total] + [total]
    correlations = {name: [] for name in MEASURES}
    for count in passes:
        draws = {name: [] for name in (MEASURES if count > 1 else ENTROPIES)}
        for _ in range(DRAWS if count < total else 1):
            for half, other in ((0, 1), (1, 0))[: 1 if one_way else 2]:
                chosen = torch.randperm(total, generator=generator)[:count]
                few = Samples(halves[half].log_probs[:, chosen])
                for name, rows in draws.items():
                    rows.append(resamples.pearson(getattr(few, name).double().numpy(), [full[other][name]]))
        for name, rows in draws.items():
            correlations[name].append(np.mean(rows, 0))
    return {name: Curve(np.array(passes[-len(rows) :]), np.stack(rows, 1)) for name, rows in correlations.items()}


def equivalent_passes(
    student: ndarray, half_a: ndarray, half_b: ndarray, groups: ndarray, measure: str, resamples: int = 1000
) -> dict[str, Any]:
    """How many passes of a teacher an estimate is worth, from arrays alone: any method's, any teacher's.

    student [N]: its values of `measure`, one of `uncertainty.distribution.MEASURES`. half_a, half_b [N, T, C]: the class probabilities in
    two times T passes of the teacher. groups [N]: which images shared dropout masks, as numbers (`np.arange(N)` if none did).
    Returns `pearson`, `pearson_ci`, `equivalent_passes`, `equivalent_passes_ci`, `censored` (beyond 4T) and `residual` (of the fit of (1)).
    """
    halves = [Samples(torch.as_tensor(half).clamp_min(1e-30).log()) for half in (half_a, half_b)]
    rows = Resamples(groups, resamples, 0)
    curve = passes_curves(halves, rows)[measure]
    pearson = rows.pearson(student, [measures_of(half)[measure] for half in halves])
    own = {"pearson": float(pearson[0]), "pearson_ci": interval(pearson)}
    return own | curve.equivalent(pearson) | {"residual": curve.residual}
