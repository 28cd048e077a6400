"""Uncertainties over a plane."""

import textwrap

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray
from scipy.stats import rankdata

from plots.style import BLUE, MEASURE_NAMES, ORANGE, PINK, Uncertainties, panels
from uncertainty.distribution import MEASURES

COLUMNS = ("predictive_entropy", "expected_entropy", "mutual_information", "total_variance")
OWN = "a score of its own"
CLASSES = (BLUE, ORANGE, PINK)


def maps(scores: Uncertainties, points: ndarray, labels: ndarray) -> Figure:
    """A row for each method, a column for each measure and one for the method's own score. Dark is unsure; each map has
    its own scale. A method's own scores are shown by rank, because a log density has no lower bound.

    scores: {method: {score: [side², row by row]}}. points: training images [N, 1, 1, 2] in 0-255, some 300 of them
    shown.
    """
    figure, axes = panels("", scores, (*COLUMNS, OWN), 1.65)
    step = max(1, len(points) // 300)
    x, y = points[::step, 0, 0].T
    for (method, column), axis in axes.items():
        own = next((name for name in scores[method] if name not in (*MEASURES, "max_probability")), None)
        values = scores[method].get(own if column == OWN else column)
        axis.set(xticks=[], yticks=[], xlim=(0, 255), ylim=(0, 255), aspect="equal")
        if values is not None:
            side = round(len(values) ** 0.5)
            values = rankdata(values) if column == OWN else values
            low, high = np.quantile(values, [0.01, 0.99])
            look = {"origin": "lower", "extent": (0, 255, 0, 255), "cmap": "Greys", "vmin": low, "vmax": high}
            axis.imshow(values.reshape(side, side), **look)
            axis.scatter(x, y, s=0.6, c=[CLASSES[label % len(CLASSES)] for label in labels[::step]])
        elif column != COLUMNS[0]:
            axis.axis("off")
        if column == COLUMNS[0]:
            axis.set_ylabel(textwrap.fill(method, 22), fontsize=7)
        if method == next(iter(scores)):
            axis.set_title(MEASURE_NAMES.get(column, column).split(" (")[0], fontsize=8)
    return figure
