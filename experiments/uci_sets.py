"""The UCI sets of uci.py, with the published splits and scores, and the tables that set ours beside these."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from experiments.gaussian_regression import GaussianPrediction
from plots.style import passes

# RMSE and log likelihood, each with its standard error over 20 splits, at 100 times the epochs: logs of
# yaringal/DropoutUncertaintyExps, the authors' later rerun. (The table of Gal & Ghahramani 2016 is of another search
# for τ, and of fewer epochs.)
PUBLISHED = {
    name: {"rmse": row[:2], "log_likelihood": row[2:]}
    for name, *row in (
        ("yacht", 0.666, 0.050, -1.250, 0.016),
        ("bostonHousing", 2.904, 0.181, -2.402, 0.043),
        ("energy", 0.539, 0.014, -1.212, 0.005),
        ("concrete", 4.826, 0.165, -2.937, 0.025),
        ("wine-quality-red", 0.622, 0.008, -0.928, 0.013),
        ("kin8nm", 0.079, 0.001, 1.136, 0.007),
        ("power-plant", 4.014, 0.038, -2.808, 0.009),
    )
}
LEVELS = (0.5, 0.9, 0.95)  # of central intervals


class Rows(NamedTuple):
    """Standardized rows of B splits: x [B, N, D], y [B, N, 1], test_x [B, M, D], test_y [B, M]. scale [B, 1]: of y."""

    x: ndarray
    y: ndarray
    test_x: ndarray
    test_y: ndarray
    scale: ndarray


def read_splits(folder: Path, splits: int, share: float) -> Rows:
    """The rows of the published splits. With share < 1, the last training rows take the place of the test rows."""

    def index(name: str) -> ndarray:
        return np.loadtxt(folder / f"index_{name}.txt").astype(int)

    features, target, table, rows = index("features"), index("target"), np.loadtxt(folder / "data.txt"), []
    for k in range(splits):
        train, test = index(f"train_{k}"), index(f"test_{k}")
        if share < 1:
            train, test = np.split(train, [round(share * len(train))])
        scale = table[train].std(0)
        x = (table - table[train].mean(0)) / np.where(scale == 0, 1, scale)
        rows.append(
            (x[train][:, features], x[train, target, None], x[test][:, features], x[test, target], scale[[target]])
        )
    return Rows(*map(np.stack, zip(*rows, strict=True)))


def rmse(mean: ndarray, rows: Rows) -> list[float]:
    """The root mean squared error of each split, in y's units."""
    return (rows.scale[:, 0] * np.sqrt(((mean - rows.test_y) ** 2).mean(1))).tolist()


def scores_of(prediction: GaussianPrediction, rows: Rows) -> dict[str, list]:
    """The scores of each split, in y's units."""
    y, scale = rows.test_y, rows.scale
    covered = np.stack([prediction.covers(y, level).mean(1) for level in LEVELS], 1)
    return {
        "rmse": rmse(prediction.mean, rows),
        "log_likelihood": (prediction.log_likelihood(y) - np.log(scale)).mean(1).tolist(),
        "crps": (scale * prediction.crps(y)).mean(1).tolist(),
        "coverage": [dict(zip(LEVELS, shares, strict=True)) for shares in covered.tolist()],
    }


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """The mean over splits and its standard error."""
    return np.mean(values), np.std(values, ddof=1) / math.sqrt(len(values))


def apart(name: str, record: dict, kind: str, score: str) -> float:
    """How far a score is from the published one, in combined standard errors."""
    (mean, error), (published, its_error) = mean_and_error(record[kind][score]), PUBLISHED[name][score]
    return (mean - published) / math.hypot(error, its_error)


def tables(records: dict[str, dict]) -> dict[str, dict]:
    """The teachers beside what is published, and the students beside as many passes as they learned from."""
    plus_minus, teachers, students = "{:.3f} ± {:.3f}".format, {}, {}
    for name, record in records.items():
        teacher, student, agreed = {}, {}, record["agreement"]
        for score, published in PUBLISHED[name].items():
            teacher[score] = plus_minus(*mean_and_error(record["teacher"][score]))
            teacher[f"{score}, published"] = plus_minus(*published)
            teacher[f"{score}, apart"] = f"{apart(name, record, 'teacher', score):+.1f}"
        for score in ("rmse", "log_likelihood", "crps"):
            few = record["passes"][score]
            student[score] = plus_minus(*mean_and_error(few))
            difference = mean_and_error(np.subtract(record["student"][score], few))
            student[f"{score}, apart"] = "{:+.4f} ± {:.4f}".format(*difference)
        for kind in ("passes", "student"):
            shares = np.mean([list(split.values()) for split in record[kind]["coverage"]], 0)
            student[f"coverage of 50, 90, 95%, {kind}"] = ", ".join(f"{share:.2f}" for share in shares)
        student |= {"Pearson": agreed["pearson"], "equivalent passes": passes(agreed), "scale": agreed["scale"]}
        teachers[name], students[name] = teacher, student
    return {
        "Mean ± standard error over the splits; *apart*: in combined standard errors": teachers,
        "Half of the reference's passes as one Gaussian for each row; *apart*: a student minus them, paired over the "
        "splits. Pearson, equivalent passes and scale are of the student's epistemic variance": students,
    }
