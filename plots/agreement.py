"""The student's uncertainties beside the teacher's."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
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
    passes_axis,
    span,
)
from uncertainty.agreement import calibration
from uncertainty.equivalent_passes import REACH, Curve

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
    equivalent passes. Values above the 0.999 quantile are drawn at the edge.

    agreement: that part of metrics.json.
    """
    entries = [agreement[name][measure] for name in teacher for measure in measures]
    better = sum(entry["pearson"] > entry["baseline_pearson"] for entry in entries)
    title = f"Teacher against student (one pass): correlation {span((e['pearson'] for e in entries), 3)}, "
    title += f"above the baseline in {better} of {len(entries)} panels"
    figure, axes = panels(title, measures, teacher, 2.9, "student")
    norm = LogNorm(1)  # of all panels
    densities = []
    for (measure, name), axis in axes.items():
        x, y = teacher[name][measure], student[name][measure]
        limit = max(np.quantile(x, 0.999), np.quantile(y, 0.999))
        look = {"gridsize": 40, "mincnt": 1, "cmap": "cividis", "linewidths": 0, "norm": norm}
        extent = (0, limit, 0, limit)
        densities.append(axis.hexbin(np.minimum(x, limit), np.minimum(y, limit), extent=extent, **look))
        diagonal(axis, limit, RED, 0.03)
        entry = agreement[name][measure]
        above = f"{name}\nPearson {defined(entry['pearson'])}: as {passes(entry)} passes\n"
        axis.set_title(f"{above}baseline {defined(entry['baseline_pearson'])}", fontsize=8, loc="left")
        axis.set_xlabel("teacher")
    norm.vmax = max(density.get_array().max() for density in densities)
    figure.colorbar(densities[0], ax=figure.axes, shrink=0.5, label="images")
    return figure


def histograms(
    teacher: Uncertainties, student: Uncertainties, shown: Sequence[str], behind: str | None = None
) -> Figure:
    """A row for each data set in `shown`, a column for each of Truong 2019's measures: the share of the images in each
    bin, of both networks; dotted, that of the set `behind`. No value is left out; few images get few bins."""
    every = [name for name in (behind, *shown) if name]
    medians = {name: [np.median(of[name]["predictive_entropy"]) for of in (student, teacher)] for name in every}
    found = ", ".join("{} {:#.2g} ({:#.2g})".format(name, *both) for name, both in medians.items())
    title = f"Median predictive entropy by the student (the teacher), nats: {found}"
    title += f"; dotted: {behind}" if behind else ""
    count = min(len(student[name]["predictive_entropy"]) for name in every)
    figure, axes = panels(title, shown, TRUONG, 3.0)
    for (name, measure), axis in axes.items():
        drawn = [
            (who, style, values[dataset][measure])
            for dataset, style in ((behind, ":"), (name, "-"))
            for who, values in (("teacher", teacher), ("student", student))
            if dataset
        ]
        numbers = np.concatenate([x for *_, x in drawn])
        bins = np.linspace(min(0, numbers.min()), numbers.max(), 1 + int(np.clip(count**0.5 / 2, 8, 40)))
        for who, style, x in drawn:
            weights = np.full(len(x), 1 / len(x))
            look = {"color": COLOURS[who], "linestyle": style, "label": NAMES[who]}
            axis.hist(x, bins, weights=weights, histtype="step", **look)
        axis.set(title=name, xlabel=axis_label(measure), yscale="log")
        axis.tick_params(axis="y", which="minor", labelleft=False)
        axis.yaxis.set_major_formatter("{x:g}")
    figure.supylabel("share of the images", fontsize=9)
    legend_below(figure)
    return figure


def correlation_by_passes(curves: dict[str, dict[str, dict]], agreement: dict[str, dict]) -> Figure:
    """For each data set and measure, the correlation of N teacher passes (a curve), and of student and baselines
    (lines). Where the student's line crosses the curve, its equivalent passes are marked; dashed, the fit beyond the
    measured passes."""
    entries = [agreement[name][measure] for name in curves for measure in PANELS]
    count = entries[0]["reference_passes"]
    worth = [np.nan if entry["equivalent_passes"] is None else entry["equivalent_passes"] for entry in entries]
    most = f"{span(worth, 0)}{' or more' if any(entry['censored'] for entry in entries) else ''}"
    title = f"One pass of the student agrees with the teacher as well as {most} passes of the teacher do"
    end = REACH * count if np.nanmax([0, *worth]) > count else count
    figure, axes = panels(title, PANELS, curves, left=f"Pearson with {count} other passes")
    for (measure, name), axis in axes.items():
        entry, curve = agreement[name][measure], curves[name][measure]
        axis.plot(curve["passes"], curve["pearson"], "o-", ms=3, color=COLOURS["teacher"], label="teacher, N passes")
        axis.axhspan(*entry["pearson_ci"], color=COLOURS["student"], alpha=0.2, linewidth=0)
        for label, (key, colour, style) in LINES.items():
            if entry[key] is not None:
                axis.axhline(entry[key], color=colour, linestyle=style, label=label)
        low = np.nanmin([0.9, curve["pearson"][0], entry["baseline_pearson"], entry["pearson_ci"][0]])
        axis.set(title=name, ylim=(max(-0.1, low - 0.05), 1.02))
        passes_axis(axis, count, end)
        if entry["equivalent_passes"] is not None:
            mark_crossing(axis, entry, curve)
    legend_below(figure, min(3, len(curves)))
    return figure


def mark_crossing(axis: Axes, entry: dict, curve: dict) -> None:
    """Mark where the student's line crosses the curve, and say how many passes that is."""
    n, end = entry["equivalent_passes"], curve["passes"][-1]
    if n > end:
        a, slope = (rows[0] for rows in Curve(np.array(curve["passes"]), np.array([curve["pearson"]])).line)
        beyond = np.geomspace(end, n)
        axis.plot(
            beyond, (a + slope / beyond) ** -0.5, "--", color=COLOURS["teacher"], label="teacher, N passes, fitted"
        )
    look = {"color": COLOURS["student"], "zorder": 3}
    axis.plot([n, n], [axis.get_ylim()[0], entry["pearson"]], linewidth=0.8, **look)
    axis.plot(n, entry["pearson"], "o", markersize=5, **look)
    left = n**2 > end  # in the right half, where the curve is high, so that there is space below it
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # a baseline's line can lie there
    look = {"xytext": (-4 if left else 4, 6), "textcoords": "offset points", "fontsize": 9, "bbox": box}
    text = f"{passes(entry)} passes"
    axis.annotate(text, (n, 0), xycoords=("data", "axes fraction"), ha="right" if left else "left", **look)


def scale(teacher: Uncertainties, student: Uncertainties, agreement: dict[str, dict]) -> Figure:
    """For each data set and measure, the teacher's mean in 20 quantile bins of the student; on the diagonal both have
    the same scale."""
    found = span(agreement[name][measure]["scale"] for name in teacher for measure in PANELS)
    title = f"The student's mean uncertainty is {found} times the teacher's. A point: a twentieth of the images"
    figure, axes = panels(title, PANELS, teacher, left="teacher")
    for (measure, name), axis in axes.items():
        x, y = calibration(student[name][measure], teacher[name][measure])
        diagonal(axis, 1.05 * max(x.max(), y.max()))
        axis.plot(x, y, "o-", ms=3, color=COLOURS["student"])
        text = f"mean {defined(agreement[name][measure]['scale'], 2)} of the teacher's"
        axis.text(0.05, 0.9, text, transform=axis.transAxes, fontsize=8)
        axis.set(title=name, xlabel="student")
    return figure
