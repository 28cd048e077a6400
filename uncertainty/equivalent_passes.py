"""Equivalent passes: how many passes of the teacher an estimate of its uncertainty is worth. (After the deep-ensemble
equivalent of Ashukha et al. 2020, arXiv 2002.06470.)

The reference is sampled twice, in halves of T passes each. The curve c(N) is the correlation of N passes of one half
with the other half. Over the images, an unbiased estimate from N passes has the variance V + E/N; V is the variance of
the true values. So its correlation obeys

    1 / c(N)² = a (1 + k / N),                                                            (1)

a straight line in 1/N. A student's correlation c is worth N = a k / (1/c² − a) passes. Everything is computed for the
data themselves (row 0) and for each resample of whole mask groups (the other rows), so that an interval covers the
error of student and curve together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy import ndarray
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from uncertainty.distribution import MEASURES, entropy, measures_of
from uncertainty.samples import Samples

PASSES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 50, 70, 100)
# (1) is fitted to N ≥ STRAIGHT. For 300 passes of known Dirichlets, a fit to N ≥ 8 gave 184 to 301, a fit to N ≥ 16
# gave 253 to 318.
STRAIGHT = 16
REACH = 4  # times T: (1) is used up to here, beyond the curve's end
ENTROPIES = ("predictive_entropy", "expected_entropy")  # the measures that one pass gives
FEW = 20  # images
FEWEST = 8  # passes of a reference
ROUNDING = 1e-9  # a variance below this share is one of rounding
DRAWS = 3  # random sets of N passes from each half


class Resamples:
    """How often each mask group counts: once in row 0; in `count` further rows as often as it is drawn (with
    replacement).

    Images that shared masks have correlated errors, so groups [N] are resampled whole.
    """

    def __init__(self, group: ndarray, count: int, seed: int):
        names, self.group = np.unique(group, return_inverse=True)
        equal = np.full(len(names), 1 / len(names))
        drawn = np.random.default_rng(seed).multinomial(len(names), equal, size=count)
        self.weights = np.concatenate([np.ones((1, len(names))), drawn])

    def pearson(self, x: ndarray, halves: list[ndarray]) -> ndarray:
        """The correlation of x [N] with each half [N], averaged, in each row; NaN if one of them is constant.

        A correlation is a function of six sums, so a row only weighs the groups' sums. For Spearman's correlation pass
        ranks: every row uses the ranks in the whole set.
        """
        values = []
        for half in halves:
            if not np.ptp(x) or not np.ptp(half):
                return np.full(len(self.weights), np.nan)
            a, b = (x - x.mean()) / x.std(), (half - half.mean()) / half.std()
            sums = np.stack([np.bincount(self.group, w) for w in (np.ones_like(a), a, b, a * a, b * b, a * b)], 1)
            n, sa, sb, saa, sbb, sab = (self.weights @ sums).T
            spread = np.stack([n * saa - sa**2, n * sbb - sb**2])  # n² times the variances, which were 1
            constant = (spread < ROUNDING * n**2).any(0)  # as a resample of one group alone can be
            with np.errstate(divide="ignore", invalid="ignore"):
                pearson = (n * sab - sa * sb) / np.sqrt(spread.prod(0))
                values.append(np.where(constant, np.nan, pearson.clip(-1, 1)))
        return np.mean(values, 0)


def interval(rows: ndarray) -> list[float]:
    """The 95% percentile interval over the resamples (all rows but the first) in which the number is defined."""
    defined = rows[1:][~np.isnan(rows[1:])]
    return np.quantile(defined, [0.025, 0.975]).tolist() if len(defined) else [np.nan, np.nan]


@dataclass(frozen=True)
class Curve:
    """The correlation that N passes reach, in each row: passes [K], pearson [1 + R, K]; or that N members of an
    ensemble (`fixed_samples`) reach."""

    passes: ndarray
    pearson: ndarray
    fixed_samples: bool = False

    @property
    def chosen(self) -> ndarray:
        """The points to which (1) is fitted: N ≥ 16, or all if fewer than two have N ≥ 16."""
        straight = self.passes >= STRAIGHT
        return straight if straight.sum() > 1 else self.passes > 0

    @cached_property
    def line(self) -> tuple[ndarray, ndarray]:
        """a [1 + R] and a k [1 + R] of (1), by least squares."""
        chosen = self.chosen
        u, y = 1 / self.passes[chosen], self.pearson[:, chosen].clip(1e-3) ** -2.0
        weight = self.passes[chosen] ** 2 / (self.passes[chosen] ** 2).sum()  # more passes give a more exact point
        u_mean, y_mean = (weight * u).sum(), (weight * y).sum(1)
        slope = (weight * (u - u_mean) * (y - y_mean[:, None])).sum(1) / (weight * (u - u_mean) ** 2).sum()
        return y_mean - slope * u_mean, slope

    @property
    def residual(self) -> float:
        """The largest relative error of (1) in N, at the points to which it is fitted."""
        with np.errstate(divide="ignore", invalid="ignore"):
            a, slope = (value[0] for value in self.line)
            fitted = slope / (self.pearson[0, self.chosen].clip(1e-3) ** -2.0 - a)
        return float(np.abs(fitted / self.passes[self.chosen] - 1).max())

    def equivalent(self, student: ndarray) -> dict:
        """The entries `equivalent_passes`, `equivalent_passes_ci` and `censored` for `student` [1 + R], its correlation
        in each row.

        More than 4T passes count as 4T; `censored` says whether row 0 does. The first two are None if they are not
        defined: the student is constant or its correlation is not positive, the interval of the halves' correlation
        reaches 0, or T < FEWEST (but an ensemble's members may be few).
        """
        too_few = self.passes[-1] < FEWEST and not self.fixed_samples
        if too_few or not student[0] > 0 or interval(self.pearson[:, -1])[0] <= 0:
            return {"equivalent_passes": None, "equivalent_passes_ci": None, "censored": False}
        end = REACH * float(self.passes[-1])
        with np.errstate(divide="ignore", invalid="ignore"):
            a, slope = self.line
            gap = student.clip(1e-3) ** -2.0 - a
            rows = np.where(gap > slope.clip(0) / end, slope / gap, end)
        few = rows < min(STRAIGHT, self.passes[-1])  # here the measured points are more exact than the line
        rows[few] = [_between(c, self.passes, curve) for c, curve in zip(student[few], self.pearson[few])]
        rows[np.isnan(student)] = np.nan
        return {
            "equivalent_passes": float(rows[0]),
            "equivalent_passes_ci": interval(rows),
            "censored": bool(rows[0] >= end),
        }


def _between(c: float, passes: ndarray, curve: ndarray) -> float:
    """N of a correlation, by (1) between the points of a curve; below the first point N falls to 0 in proportion to the
    correlation."""
    curve = np.maximum.accumulate(curve.clip(1e-3))
    if c <= curve[0]:
        return passes[0] * max(c, 0.0) / curve[0]
    return 1 / np.interp(-(c**-2.0), -(curve**-2.0), 1 / passes)


def passes_curves(
    halves: list[Samples],
    resamples: Resamples,
    fixed_samples: bool = False,
    of: Callable[[ndarray], ndarray] = lambda values: values,
) -> dict[str, Curve]:
    """c(N) of each measure: N passes of one half, drawn DRAWS times, are correlated with the whole other half; both
    ways are averaged.

    fixed_samples: only passes of the first half are correlated with the second half. of: what is correlated, a linear
    function of the measure's values [N] (`beyond_softmax`).
    """
    total = halves[0].log_probs.shape[1]
    generator = torch.Generator().manual_seed(0)
    full = [{name: of(values) for name, values in measures_of(half).items()} for half in halves]
    passes = [n for n in PASSES if n < total] + [total]
    correlations = {name: [] for name in MEASURES}
    for count in passes:
        draws = {name: [] for name in (MEASURES if count > 1 else ENTROPIES)}
        for _ in range(DRAWS if count < total else 1):
            for half, other in ((0, 1), (1, 0))[: 1 if fixed_samples else 2]:
                chosen = torch.randperm(total, generator=generator)[:count]
                few = Samples(halves[half].log_probs[:, chosen])
                for name, rows in draws.items():
                    rows.append(resamples.pearson(of(getattr(few, name).double().numpy()), [full[other][name]]))
        for name, rows in draws.items():
            correlations[name].append(np.mean(rows, 0))
    return {
        name: Curve(np.array(passes[-len(rows) :]), np.stack(rows, 1), fixed_samples)
        for name, rows in correlations.items()
    }


def beyond_softmax(softmax: Tensor) -> Callable[[ndarray], ndarray]:
    """A function: values [N] → the values minus what one softmax [N, C] of each image predicts of them.

    The prediction is a smooth function of its entropy, Gini impurity and largest probability: radial basis functions
    and ridge regression, fitted to four fifths of the images and applied to the last fifth, in turn. It is linear in
    the values. So the correlation of two results is a partial correlation: it counts only what one softmax does not
    say.
    """
    p = softmax.double().cpu()
    if len(p) < FEW:  # too few for a function of them
        return lambda values: values - values.mean()
    features = torch.stack([entropy(p), 1 - p.square().sum(1), p.amax(1)], 1).numpy()
    basis = Nystroem(gamma=0.5, n_components=min(100, len(p)), random_state=0)
    basis = make_pipeline(StandardScaler(), basis).fit_transform(features)
    folds = KFold(5, shuffle=True, random_state=0)
    return lambda values: values - cross_val_predict(Ridge(1e-2), basis, values, cv=folds)


def equivalent_passes(
    student: ndarray, half_a: ndarray, half_b: ndarray, groups: ndarray, measure: str, resamples: int = 1000
) -> dict:
    """How many passes of a teacher an estimate is worth. It needs arrays alone, from any method and any teacher.

    student [N]: its values of `measure`, one of `uncertainty.distribution.MEASURES`. half_a, half_b [N, T, C]: the
    class probabilities of T passes of the teacher each. groups [N]: which images shared dropout masks, as numbers
    (`np.arange(N)` if none did). Returns `pearson`, `pearson_ci`, `equivalent_passes`, `equivalent_passes_ci`,
    `censored` (beyond 4T) and `residual` (of the fit of (1)).
    """
    halves = [Samples(torch.as_tensor(half).clamp_min(1e-30).log()) for half in (half_a, half_b)]
    rows = Resamples(groups, resamples, 0)
    curve = passes_curves(halves, rows)[measure]
    pearson = rows.pearson(student, [measures_of(half)[measure] for half in halves])
    own = {"pearson": float(pearson[0]), "pearson_ci": interval(pearson)}
    return own | curve.equivalent(pearson) | {"residual": curve.residual}
