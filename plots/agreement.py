"""The student's uncertainties beside the teacher's."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from plots.style import (
    COLOURS,
    GREEN,
    GREY,
    NAMES,
    PANELS,
    PINK,
    RED,
    TRUONG,
    Uncertainties,
    axis_label,
    defined,
    diagonal,
    legend_below,
    panels,
    passes,
)
from uncertainty.agreement import calibration

LINES = {  # in the figure of passes: the key in `agreement`, colour and style
    "student, 1 pass (95% interval)": ("pearson", COLOURS["student"], "-"),
    "noise ceiling: a perfect student": ("noise_ceiling", GREEN, ":"),
    "baseline: one softmax, no dropout": ("baseline_pearson", GREY, "--"),
    "baseline: dropout in the last layer alone": ("last_layer_pearson", PINK, "--"),
}


def teacher_against_student(
    teacher: Uncertainties, student: Uncertainties, agreement: dict[str, dict], measures: Sequence[str]
) -> Figure:
    """A column for each data set, a row for each measure: density of (teacher, student); above it the correlation's
    equivalent passes, and how many images lie beyond the axes.

    agreement: that part of metrics.json.
    """
    title = "Teacher (MC-dropout) against student (one pass): the uncertainty of each image"
    figure, axes = panels(title, measures, teacher, 2.9, "student")
    norm = LogNorm(1)  # of all panels
    densities = []
    for (measure, name), axis in axes.items():
        x, y = teacher[name][measure], student[name][measure]
        limit = max(np.quantile(x, 0.999), np.quantile(y, 0.999))
        inside = np.maximum(x, y) <= limit
        look = {"gridsize": 45, "mincnt": 1, "cmap": "cividis", "linewidths": 0, "norm": norm}
        densities.append(axis.hexbin(x[inside], y[inside], extent=(0, limit, 0, limit), **look))
        diagonal(axis, limit, RED)
        entry = agreement[name][measure]
        beyond = f"; {(~inside).sum()} of {len(x)} beyond the axes" if not inside.all() else ""
        above = f"{name}\nPearson {defined(entry['pearson'])}: as {passes(entry)} passes\n"
        axis.set_title(f"{above}baseline {defined(entry['baseline_pearson'])}{beyond}", fontsize=7.5, loc="left")
        axis.set_xlabel("teacher")
    norm.vmax = max(density.get_array().max() for density in densities)
    figure.colorbar(densities[0], ax=figure.axes, shrink=0.5, label="images")
    return figure


def histograms(
    teacher: Uncertainties, student: Uncertainties, shown: Sequence[str], behind: str | None = None
) -> Figure:
    """A row for each data set in `shown`, a column for each of Truong 2019's measures: the share of the images in each
    bin, of both networks; dotted, that of the set `behind`. No value is left out."""
    title = f"Uncertainty of each image: {', '.join(shown)}" + (f"; dotted: {behind}" if behind else "")
    figure, axes = panels(title, shown, TRUONG, 3.0)
    for (name, measure), axis in axes.items():
        drawn = [
            (who, style, values[dataset][measure])
            for dataset, style in ((behind, ":"), (name, "-"))
            for who, values in (("teacher", teacher), ("student", student))
            if dataset
        ]
        every = np.concatenate([x for *_, x in drawn])
        bins = np.linspace(min(0, every.min()), every.max(), 41)
        for who, style, x in drawn:
            weights = np.full(len(x), 1 / len(x))
            look = {"color": COLOURS[who], "linestyle": style, "label": NAMES[who]}
            axis.hist(x, bins, weights=weights, histtype="step", **look)
        axis.set(title=name, xlabel=axis_label(measure), yscale="log")
        axis.tick_params(axis="y", which="minor", labelleft=False)
    figure.supylabel("share of the images", fontsize=9)
    legend_below(figure)
    return figure


def correlation_by_passes(curves: dict[str, dict[str, dict]], agreement: dict[str, dict]) -> Figure:
    """For each data set and measure, the correlation of N teacher passes (a curve), and of student and baselines
    (lines)."""
    count = next(iter(agreement.values()))[PANELS[0]]["reference_passes"]
    title = "Equivalent passes: where the student's correlation lies on the curve of N teacher passes"
    figure, axes = panels(title, PANELS, curves, left=f"Pearson with {count} other passes")
    for (measure, name), axis in axes.items():
        entry, curve = agreement[name][measure], curves[name][measure]
        axis.plot(curve["passes"], curve["pearson"], "o-", ms=3, color=COLOURS["teacher"], label="teacher, N passes")
        axis.axhspan(*entry["pearson_ci"], color=COLOURS["student"], alpha=0.2, linewidth=0)
        for label, (key, colour, style) in LINES.items():
            if entry[key] is not None:
                axis.axhline(entry[key], color=colour, linestyle=style, label=label)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # a baseline's line can lie there
        look = {"transform": axis.transAxes, "ha": "right", "fontsize": 8, "bbox": box}
        axis.text(0.97, 0.05, f"as {passes(entry)} passes", **look)
        low = np.nanmin([0.9, curve["pearson"][0], entry["baseline_pearson"], entry["pearson_ci"][0]])
        axis.set_xscale("log", base=2)
        axis.set(title=name, xlabel="passes N", ylim=(max(-0.1, low - 0.05), 1.02))
        axis.xaxis.set_major_formatter("{x:.0f}")
    legend_below(figure, min(3, len(curves)))
    return figure


def scale(teacher: Uncertainties, student: Uncertainties, agreement: dict[str, dict]) -> Figure:
    """For each data set and measure, the teacher's mean in 20 quantile bins of the student; on the diagonal both have
    the same scale."""
    title = "Is the student's scale the teacher's? Means in 20 quantile bins of the student"
    figure, axes = panels(title, PANELS, teacher, left="teacher")
    for (measure, name), axis in axes.items():
        x, y = calibration(student[name][measure], teacher[name][measure])
        diagonal(axis, 1.05 * max(x.max(), y.max()))
        axis.plot(x, y, "o-", ms=3, color=COLOURS["student"])
        text = f"mean {defined(agreement[name][measure]['scale'], 2)} of the teacher's"
        axis.text(0.05, 0.9, text, transform=axis.transAxes, fontsize=8)
        axis.set(title=name, xlabel="student")
    return figure
