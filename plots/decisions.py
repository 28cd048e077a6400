"""Uses of the uncertainties: calibrated confidence, rejecting errors, finding OOD images."""

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray
from sklearn.metrics import roc_curve

from plots.style import COLOURS, NAMES, Uncertainties, diagonal, legend_below, panels, plain_name
from uncertainty import classification

OOD_SCORE = "predictive_entropy"  # of the figure; every other measure is in the table


def reliability(confidence: dict[str, ndarray], correct: dict[str, ndarray], dataset: str) -> Figure:
    """For each method, accuracy against confidence in 15 equal bins; the area of a point is the bin's share of the
    images."""
    figure, axes = panels(f"Reliability on {dataset}: accuracy against confidence", [dataset], confidence, 3.0)
    for (_, who), axis in axes.items():
        share, mean, accuracy = classification.confidence_bins(confidence[who], correct[who]).T
        diagonal(axis, 1)
        axis.vlines(mean, mean, accuracy, color=COLOURS[who], alpha=0.5)
        axis.scatter(mean, accuracy, s=10 + 300 * share, color=COLOURS[who], alpha=0.8, linewidths=0, clip_on=False)
        title = f"{NAMES[who]}\nECE {classification.ece(confidence[who], correct[who]):.3f}"
        axis.set(title=title, xlabel="confidence", ylabel="accuracy")
    return figure


def roc(teacher: Uncertainties, student: Uncertainties, ood: dict[str, dict]) -> Figure:
    """For each out-of-distribution set, the ROC of telling it from the first set by OOD_SCORE, of both networks."""
    inside, *outside = teacher
    title = f"Telling other images from {inside} by the {plain_name(OOD_SCORE)}"
    figure, axes = panels(title, [inside], outside, 3.4)
    for (_, name), axis in axes.items():
        diagonal(axis, 1)
        aurocs = []
        for who, measures in (("teacher", teacher), ("student", student)):
            x, y = (measures[dataset][OOD_SCORE] for dataset in (inside, name))
            fpr, tpr, _ = roc_curve([0] * len(x) + [1] * len(y), np.concatenate([x, y]))
            axis.plot(fpr, tpr, color=COLOURS[who], linewidth=1.2, label=NAMES[who])
            auroc = ood[name][who][OOD_SCORE]["auroc"]
            aurocs.append(f"{who} {auroc:.3f}{' (below chance)' if auroc < 0.5 else ''}")
        axis.set_title(f"{name}\nAUROC: {', '.join(aurocs)}", fontsize=8)
        axis.set(xlabel="false positive rate", ylabel="true positive rate")
    legend_below(figure)
    return figure


def risk_coverage(confidence: dict[str, ndarray], correct: dict[str, ndarray], dataset: str) -> Figure:
    """The error rate among the most confident images, against the share that is kept."""
    figure, axes = panels(f"Risk and coverage on {dataset}", [dataset], ["all"], 4.2)
    (axis,) = axes.values()
    for who, value in confidence.items():
        label = f"{NAMES[who]}: AURC {classification.aurc(value, correct[who]):.4f}"
        axis.plot(*classification.risk_coverage(value, correct[who]), color=COLOURS[who], label=label)
    axis.set(xlabel="share of images kept, most confident first", ylabel="error rate among them")
    axis.set(xlim=(0, 1), ylim=(0, None))
    axis.legend()
    return figure
