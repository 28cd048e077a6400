"""What the uncertainties are good for: calibrated confidence, rejecting errors, finding foreign images."""

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray
from sklearn.metrics import roc_curve

from plots.style import COLOURS, MEASURE_COLOURS, MEASURE_NAMES, NAMES, grid
from uncertainty import classification


def reliability(confidence: dict[str, ndarray], correct: dict[str, ndarray], dataset: str) -> Figure:
    """For each method, accuracy against confidence in 15 equal bins; the area of a point is the bin's share of the images."""
    figure, axes = grid(1, len(confidence), f"Reliability on {dataset}: accuracy against confidence", 3.0)
    for axis, (who, value) in zip(axes[0], confidence.items()):
        share, mean, accuracy = classification.confidence_bins(value, correct[who]).T
        axis.plot([0, 1], [0, 1], color="black", linewidth=0.8)
        axis.vlines(mean, mean, accuracy, color=COLOURS[who], alpha=0.5)
        axis.scatter(mean, accuracy, s=10 + 300 * share, color=COLOURS[who], alpha=0.8, linewidths=0)
        axis.set(title=NAMES[who], xlabel="confidence", xlim=(0, 1.03), ylim=(0, 1.03), aspect="equal")
        axis.text(0.05, 0.93, f"ECE {classification.ece(value, correct[who]):.3f}", transform=axis.transAxes)
    axes[0][0].set_ylabel("accuracy")
    return figure


def roc(teacher: dict[str, dict[str, ndarray]], student: dict[str, dict[str, ndarray]], ood: dict[str, dict]) -> Figure:
    """For each out-of-distribution set, the ROC of telling it from the first set, by each measure; teacher above, student below."""
    inside, *outside = teacher
    figure, axes = grid(2, len(outside), f"Telling other images from {inside}", 3.2)
    for row, (who, measures) in zip(axes, (("teacher", teacher), ("student", student))):
        for axis, name in zip(row, outside):
            is_outside = np.repeat([0, 1], [len(measures[s]["total_variance"]) for s in (inside, name)])
            for measure, colour in MEASURE_COLOURS.items():
                fpr, tpr, _ = roc_curve(is_outside, np.concatenate([measures[inside][measure], measures[name][measure]]))
                label = f"{MEASURE_NAMES[measure].split(' (')[0]}: {ood[name][who][measure]['auroc']:.3f}"
                axis.plot(fpr, tpr, color=colour, linewidth=1.2, label=label)
            axis.plot([0, 1], [0, 1], color="black", linewidth=0.5)
            axis.set(title=f"{name}: {NAMES[who]}", ylabel="true positive rate", aspect="equal")
            if row is axes[-1]:
                axis.set_xlabel("false positive rate")
            axis.legend(title="AUROC by", loc="lower right", fontsize=7, title_fontsize=7)
    return figure


def risk_coverage(confidence: dict[str, ndarray], correct: dict[str, ndarray], dataset: str) -> Figure:
    """The error rate among the most confident images, against the share that is kept."""
    figure, axes = grid(1, 1, f"Risk and coverage on {dataset}", 4.2)
    axis = axes[0][0]
    for who, value in confidence.items():
        area = classification.aurc(value, correct[who])
        axis.plot(*classification.risk_coverage(value, correct[who]), color=COLOURS[who], label=f"{NAMES[who]}: AURC {area:.4f}")
    axis.set(xlabel="share of images kept, most confident first", ylabel="error rate among them", xlim=(0, 1), ylim=(0, None))
    axis.legend()
    return figure
