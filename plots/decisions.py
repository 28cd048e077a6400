"""Uses of the uncertainties: calibrated confidence, rejecting errors, finding OOD images."""

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray
from sklearn.metrics import roc_curve

from plots.style import COLOURS, NAMES, Uncertainties, diagonal, legend_below, panels, plain_name
from uncertainty import classification

OOD_SCORE = "predictive_entropy"  # of the figure; every other measure is in the table
DECISION_STYLES = {"predictive_entropy": "-", "total_variance": ":"}


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


def decisions_by_passes(by_passes: dict[str, dict], inside: str) -> Figure:
    """NLL, and the AUROCs of errors and of OOD sets by two measures, against the number of teacher passes; student and
    one softmax as lines. by_passes: of metrics.json."""
    counts = [count for count in by_passes if count.isdecimal()]
    quantities = list(by_passes[counts[0]])
    title = "How many passes does a decision need? Negative log likelihood, and AUROC of errors and of other images"
    figure, axes = panels(title, [inside], quantities, 3.0)
    for (_, what), axis in axes.items():
        for score, style in {None: "-"}.items() if what == "nll" else DECISION_STYLES.items():
            value = {who: of[what] if score is None else of[what].get(score) for who, of in by_passes.items()}
            known = [count for count in counts if value[count] is not None]
            suffix = "" if score is None else f": {plain_name(score)}"
            look = {"linestyle": style, "linewidth": 1.2}
            x, y = [int(count) for count in known], [value[count] for count in known]
            axis.plot(
                x, y, marker="o", markersize=3, color=COLOURS["teacher"], label=f"teacher, N passes{suffix}", **look
            )
            for who in ("student", "teacher_deterministic"):
                if value[who] is not None:
                    axis.axhline(value[who], color=COLOURS[who], label=f"{NAMES[who]}{suffix}", **look)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:.0f}")
        name = {"nll": "NLL, nats", "errors": "AUROC of errors"}.get(what, f"AUROC of {what}")
        axis.set(title=name, xlabel="passes N")
    legend_below(figure, 3)
    return figure


def passes_that_decide(by_passes: dict[str, dict], tolerance: float = 0.005) -> dict[str, int]:
    """For errors and each OOD set, the fewest passes of the teacher whose AUROC by predictive entropy is at most
    `tolerance` below that of all passes."""
    counts = sorted(int(count) for count in by_passes if count.isdecimal())
    aurocs = {
        what: {count: by_passes[str(count)][what].get(OOD_SCORE) for count in counts}
        for what in by_passes.get("student", ())
        if what != "nll"
    }
    return {
        what: min(count for count in counts if of[count] >= of[counts[-1]] - tolerance)
        for what, of in aurocs.items()
        if None not in of.values()
    }
