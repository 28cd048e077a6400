"""Uses of the uncertainties: calibrated confidence, rejecting errors, finding OOD images."""

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray
from sklearn.metrics import roc_curve

from plots.style import COLOURS, GREY, NAMES, Uncertainties, diagonal, legend_below, panels, passes_axis, plain_name
from uncertainty import classification

OOD_SCORE = "predictive_entropy"  # of the figure; every other measure is in the table
FEW = 10  # images in a bin: its accuracy says little
DECISION_STYLES = {"predictive_entropy": "-", "total_variance": ":"}


def reliability(confidence: dict[str, ndarray], correct: dict[str, ndarray], dataset: str) -> Figure:
    """For each method, accuracy against confidence in 15 equal bins; the area of a point is the bin's share of the
    images, and bins of few images are pale."""
    said = calibrated(confidence["student"], correct["student"])
    figure, axes = panels(f"Accuracy against confidence on {dataset}: the student is {said}", [dataset], confidence, 3)
    for (_, who), axis in axes.items():
        share, mean, accuracy = classification.confidence_bins(confidence[who], correct[who]).T
        diagonal(axis, 1)
        alpha = np.where(share * len(correct[who]) < FEW, 0.2, 0.8)
        axis.vlines(mean, mean, accuracy, color=COLOURS[who], alpha=alpha)
        axis.scatter(
            mean, accuracy, s=10 + 300 * share, color=COLOURS[who], alpha=alpha, linewidths=0, clip_on=False, zorder=3
        )
        title = f"{NAMES[who]}\nECE {classification.ece(confidence[who], correct[who]):.3f}"
        axis.set(title=title, xlabel="confidence", ylabel="accuracy")
    for share in (0.01, 0.1, 1):
        axis.scatter([], [], s=10 + 300 * share, color=GREY, linewidths=0, label=f"{share:.0%} of the images")
    axis.scatter([], [], s=13, color=GREY, alpha=0.2, linewidths=0, label=f"pale: fewer than {FEW} images")
    legend_below(figure, 4)
    return figure


def calibrated(confidence: ndarray, correct: ndarray) -> str:
    """Whether the mean confidence is the accuracy, up to twice the standard error of their difference."""
    gap = confidence - correct
    if abs(gap.mean()) <= 2 * gap.std() / len(gap) ** 0.5:
        return "as often right as it is confident"
    return f"{'over' if gap.mean() > 0 else 'under'}confident by {abs(gap.mean()):.3f}"


def roc(teacher: Uncertainties, student: Uncertainties, ood: dict[str, dict]) -> Figure:
    """For each out-of-distribution set, the ROC of telling it from the first set by OOD_SCORE, of both networks."""
    inside, *outside = teacher
    near = max(
        abs(np.subtract(*(ood[name][who][OOD_SCORE]["auroc"] for who in ("teacher", "student")))) for name in outside
    )
    title = f"Telling other images from {inside} by {plain_name(OOD_SCORE)}: "
    title += f"student and teacher differ by at most {near:.3f}"
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
    """The error rate among the most confident images, against the share that is kept; from where it begins to rise."""
    curves = {who: classification.risk_coverage(value, correct[who]) for who, value in confidence.items()}
    coverage, risk = curves["student"]
    at = np.searchsorted(coverage, 0.9)
    title = f"The student errs in {risk[-1]:.1%} of {dataset}, in {risk[at]:.1%} of the 90% that it is surest of"
    figure, axes = panels(title, [dataset], ["all"], 4.6)
    (axis,) = axes.values()
    for who, (coverage, risk) in curves.items():
        label = f"{NAMES[who]}: AURC {classification.aurc(confidence[who], correct[who]):.4f}"
        axis.plot(coverage, risk, color=COLOURS[who], label=label)
    rises = [coverage[risk < risk[-1] / 20].max(initial=0) for coverage, risk in curves.values()]  # 0: from the start
    start = max(0, 1.1 * min(rises) - 0.1)
    top = max(risk[coverage >= start].max() for coverage, risk in curves.values())
    axis.set(xlabel="share of images kept, most confident first", ylabel="error rate among them")
    axis.set(xlim=(start, 1), ylim=(0, 1.05 * top or 1))
    axis.legend()
    return figure


def decisions_by_passes(by_passes: dict[str, dict], inside: str) -> Figure:
    """NLL, and the AUROCs of errors and of OOD sets by two measures, against the number of teacher passes; student and
    one softmax as lines. by_passes: of metrics.json."""
    counts = [count for count in by_passes if count.isdecimal()]
    quantities = list(by_passes[counts[0]])
    enough = [f"{count} ({what})" for what, count in passes_that_decide(by_passes).items()]
    title = (
        f"So many passes of the teacher decide as well as all {counts[-1]}, up to 0.005 of AUROC: {', '.join(enough)}"
    )
    figure, axes = panels(title, [inside], quantities, 3.0)
    for (_, what), axis in axes.items():
        for score, style in {None: "-"}.items() if what == "nll" else DECISION_STYLES.items():
            value = {who: of[what] if score is None else of[what].get(score) for who, of in by_passes.items()}
            dotted = style == ":" and f"dotted: by {plain_name(score)}, otherwise by {plain_name(OOD_SCORE)}"
            look = {"linestyle": style, "linewidth": 1.2}
            line = {"marker": "o", "markersize": 3, "color": COLOURS["teacher"], "label": dotted or "teacher, N passes"}
            axis.plot(list(map(int, counts)), [value[count] for count in counts], **line, **look)
            for who in ("student", "teacher_deterministic"):
                if value[who] is not None:
                    axis.axhline(value[who], color=COLOURS[who], label=None if dotted else NAMES[who], **look)
        passes_axis(axis, int(counts[-1]), int(counts[-1]))
        name = {"nll": "NLL, nats", "errors": "AUROC of errors"}.get(what, f"AUROC of {what}")
        axis.set(title=name)
    legend_below(figure, 4)
    return figure


def passes_that_decide(by_passes: dict[str, dict]) -> dict[str, int]:
    """For errors and each OOD set, the fewest passes of the teacher whose AUROC by predictive entropy is at most
    0.005 below that of all passes."""
    counts = sorted(int(count) for count in by_passes if count.isdecimal())
    aurocs = {
        what: {count: by_passes[str(count)][what].get(OOD_SCORE) for count in counts}
        for what in by_passes.get("student", ())
        if what != "nll"
    }
    return {
        what: min(count for count in counts if of[count] >= of[counts[-1]] - 0.005)
        for what, of in aurocs.items()
        if None not in of.values()
    }
