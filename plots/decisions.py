"""Uses of the uncertainties: calibrated confidence, rejecting errors, finding OOD images."""

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray
from sklearn.metrics import roc_curve

from plots.style import COLOURS, MEASURE_NAMES, NAMES, grid
from uncertainty import classification

OOD_SCORE = "predictive_entropy"  # of the figure; every other measure is in the table


def reliability(confidence: dict[str, ndarray], correct: dict[str, ndarray], dataset: str) -> Figure:
    """For each method, accuracy against confidence in 15 equal bins; the area of a point is the bin's share of the
    images."""
    figure, axes = grid(1, len(confidence), f"Reliability on {dataset}: accuracy against confidence", 3.0)
    for axis, (who, value) in zip(axes[0], confidence.items()):
        share, mean, accuracy = classification.confidence_bins(value, correct[who]).T
        axis.plot([0, 1], [0, 1], color="black", linewidth=0.8)
        axis.vlines(mean, mean, accuracy, color=COLOURS[who], alpha=0.5)
        axis.scatter(mean, accuracy, s=10 + 300 * share, color=COLOURS[who], alpha=0.8, linewidths=0, clip_on=False)
        title = f"{NAMES[who]}\nECE {classification.ece(value, correct[who]):.3f}"
        axis.set(title=title, xlabel="confidence", xlim=(0, 1.03), ylim=(0, 1.03), aspect="equal")
    axes[0][0].set_ylabel("accuracy")
    return figure


def roc(teacher: dict[str, dict[str, ndarray]], student: dict[str, dict[str, ndarray]], ood: dict[str, dict]) -> Figure:
    """For each out-of-distribution set, the ROC of telling it from the first set by OOD_SCORE, of both networks."""
    inside, *outside = teacher
    score = MEASURE_NAMES[OOD_SCORE].split(" (")[0]
    figure, axes = grid(1, len(outside), f"Telling other images from {inside} by the {score}", 3.4)
    for axis, name in zip(axes[0], outside):
        aurocs = {who: ood[name][who][OOD_SCORE]["auroc"] for who in ("teacher", "student")}
        for who, measures in (("teacher", teacher), ("student", student)):
            x, y = (measures[dataset][OOD_SCORE] for dataset in (inside, name))
            fpr, tpr, _ = roc_curve(np.repeat([0, 1], [len(x), len(y)]), np.concatenate([x, y]))
            axis.plot(fpr, tpr, color=COLOURS[who], linewidth=1.2, label=NAMES[who])
        axis.plot([0, 1], [0, 1], color="black", linewidth=0.5)
        said = ", ".join(
            f"{who} {auroc:.3f}" + (" (below chance)" if auroc < 0.5 else "") for who, auroc in aurocs.items()
        )
        axis.set_title(f"{name}\nAUROC: {said}", fontsize=8)
        axis.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def risk_coverage(confidence: dict[str, ndarray], correct: dict[str, ndarray], dataset: str) -> Figure:
    """The error rate among the most confident images, against the share that is kept."""
    figure, axes = grid(1, 1, f"Risk and coverage on {dataset}", 4.2)
    axis = axes[0][0]
    for who, value in confidence.items():
        area = classification.aurc(value, correct[who])
        axis.plot(
            *classification.risk_coverage(value, correct[who]),
            color=COLOURS[who],
            label=f"{NAMES[who]}: AURC {area:.4f}",
        )
    axis.set(
        xlabel="share of images kept, most confident first", ylabel="error rate among them", xlim=(0, 1), ylim=(0, None)
    )
    axis.legend()
    return figure
