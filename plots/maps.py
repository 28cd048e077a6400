"""Uncertainties over a plane."""

import textwrap

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray
from scipy.stats import rankdata

from plots.style import BLUE, MEASURE_NAMES, ORANGE, PINK
from uncertainty.distribution import MEASURES

COLUMNS = ("predictive_entropy", "expected_entropy", "mutual_information", "total_variance")
CLASSES = (BLUE, ORANGE, PINK)


def maps(scores: dict[str, dict[str, ndarray]], points: ndarray, labels: ndarray) -> Figure:
    """A row for each method, a column for each measure and one for the method's own score. Dark is unsure; each map has
    its own scale. A method's own scores are shown by rank, because a log density has no lower bound.

    scores: {method: {score: [side², row by row]}}. points: training images [N, 1, 1, 2] in 0-255, some 300 of them
    shown.
    """
    names = [MEASURE_NAMES[measure].split(" (")[0] for measure in COLUMNS] + ["a score of its own"]
    figure = Figure(figsize=(1.7 * len(names) + 1.2, 1.62 * len(scores) + 0.4), layout="constrained")
    step = max(1, len(points) // 300)
    panels = figure.subplots(len(scores), len(names), squeeze=False)
    for row, (method, by_score) in zip(panels, scores.items()):
        own = [name for name in by_score if name not in MEASURES and name != "max_probability"]
        for axis, score in zip(row, (*COLUMNS, *own)):
            if score in by_score:
                side = round(len(by_score[score]) ** 0.5)
                values = (rankdata(by_score[score]) if score in own else by_score[score]).reshape(side, side)
                low, high = np.quantile(values, [0.01, 0.99])
                axis.imshow(values, origin="lower", extent=(0, 255, 0, 255), cmap="Greys", vmin=low, vmax=high)
        for axis, shown in zip(row, (*COLUMNS, *own, None)):
            axis.set(xticks=[], yticks=[], xlim=(0, 255), ylim=(0, 255), aspect="equal")
            if shown in by_score:
                x, y = points[::step, 0, 0].T
                axis.scatter(x, y, s=0.6, c=[CLASSES[label] for label in labels[::step]])
            else:
                axis.axis("off")
        row[0].set_ylabel(textwrap.fill(method, 22), fontsize=7)
        row[0].axis("on")
    for axis, name in zip(panels[0], names):
        axis.set_title(name, fontsize=8)
    return figure
