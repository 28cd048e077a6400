"""The UCI sets of uci.py, with the published splits and scores."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray

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


class Rows(NamedTuple):
    """Standardized rows of B splits: x [B, N, D], y [B, N, 1], test_x [B, M, D], test_y [B, M]. scale [B, 1]: of y."""

    x: ndarray
    y: ndarray
    test_x: ndarray
    test_y: ndarray
    scale: ndarray


def read_splits(folder: Path, splits: int, share: float) -> Rows:
    """The rows of the published splits. With share < 1, the last training rows take the place of the test rows."""
    features, target = (np.loadtxt(folder / f"index_{name}.txt").astype(int) for name in ("features", "target"))
    table, rows = np.loadtxt(folder / "data.txt"), []
    for k in range(splits):
        train, test = (np.loadtxt(folder / f"index_{name}_{k}.txt").astype(int) for name in ("train", "test"))
        if share < 1:
            train, test = np.split(train, [round(share * len(train))])
        scale = table[train].std(0)
        x = (table - table[train].mean(0)) / np.where(scale == 0, 1, scale)
        rows.append(
            (x[train][:, features], x[train, target, None], x[test][:, features], x[test, target], scale[[target]])
        )
    return Rows(*map(np.stack, zip(*rows, strict=True)))


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """The mean over splits and its standard error."""
    return np.mean(values), np.std(values, ddof=1) / math.sqrt(len(values))


def apart(name: str, record: dict, kind: str, score: str) -> float:
    """How far a score is from the published one, in combined standard errors."""
    (mean, error), (published, its_error) = mean_and_error(record[kind][score]), PUBLISHED[name][score]
    return (mean - published) / math.hypot(error, its_error)
