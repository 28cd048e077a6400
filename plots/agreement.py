"""The student's uncertainties beside the teacher's."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy import ndarray

from plots.style import (
    COLOURS,
    GREEN,
    GREY,
    MEASURE_NAMES,
    NAMES,
    PANELS,
    PINK,
    RED,
    TRUONG,
    axis_label,
    defined,
    grid,
    passes,
)
from uncertainty.agreement import calibration


def teacher_against_student(
    teacher: dict[str, dict[str, ndarray]],
    student: dict[str, dict[str, ndarray]],
    agreement: dict[str, dict],
    measures: Sequence[str],
) -> Figure:
    """A column for each data set, a row for each measure: density of (teacher, student); above it the correlation's
    equivalent passes, and how many images lie beyond the axes.

    teacher, student: {data set: {measure: [N]}}; agreement: that part of metrics.json.
    """
    figure, axes = grid(
        len(measures),
        len(teacher),
        "Teacher (MC-dropout) against student (one pass): the uncertainty of each image",
        2.9,
    )
    densities = []
    for row, measure in zip(axes, measures):
        for axis, name in zip(row, teacher):
            x, y = teacher[name][measure], student[name][measure]
            limit = max(np.quantile(x, 0.999), np.quantile(y, 0.999))
            inside = (x <= limit) & (y <= limit)
            density = axis.hexbin(
                x[inside], y[inside], gridsize=45, mincnt=1, cmap="cividis", linewidths=0, extent=(0, limit, 0, limit)
            )
            densities.append(density)
            axis.plot([0, limit], [0, limit], color=RED, linewidth=1)
            axis.set(xlim=(0, limit), ylim=(0, limit), aspect="equal", xlabel="teacher")
            entry = agreement[name][measure]
            lines = [
                f"Pearson {defined(entry['pearson'])}: as {passes(entry)} passes",
                f"baseline {defined(entry['baseline_pearson'])}",
            ]
            if beyond := (~inside).sum():
                lines[1] += f"; {beyond} of {len(x)} beyond the axes"
            axis.set_title("\n".join(lines), fontsize=7.5, loc="left")
    most = max(density.get_array().max() for density in densities)
    for density in densities:
        density.set_norm(LogNorm(1, most))
    figure.colorbar(densities[0], ax=figure.axes, shrink=0.5, label="images")
    _label_edges(axes, list(teacher), measures, "student")
    return figure


def histograms(
    teacher: dict[str, dict[str, ndarray]],
    student: dict[str, dict[str, ndarray]],
    shown: Sequence[str],
    behind: str | None = None,
) -> Figure:
    """A row for each data set in `shown`, a column for each of Truong 2019's measures: the share of the images in each
    bin, of both networks; dotted, that of the set `behind`. No value is left out.

    teacher, student: {data set: {measure: [N]}}.
    """
    title = f"Uncertainty of each image: {', '.join(shown)}" + (f"; dotted: {behind}" if behind else "")
    figure, axes = grid(len(shown), len(TRUONG), title, 3.0)
    for row, name in zip(axes, shown):
        for axis, measure in zip(row, TRUONG):
            drawn = [
                (who, values, at, "-" if at == name else ":")
                for who, values in (("teacher", teacher), ("student", student))
                for at in (name, behind)
                if at
            ]
            bins = np.linspace(
                min(0, *(v[at][measure].min() for _, v, at, _ in drawn)),
                max(v[at][measure].max() for _, v, at, _ in drawn),
                41,
            )
            for who, values, at, style in drawn:
                x = values[at][measure]
                label = f"{NAMES[who]}: {at}"
                axis.hist(
                    x,
                    bins,
                    weights=np.full(len(x), 1 / len(x)),
                    histtype="step",
                    color=COLOURS[who],
                    linestyle=style,
                    label=label,
                )
            axis.set(title=name, xlabel=axis_label(measure), yscale="log")
            axis.tick_params(axis="y", which="minor", labelleft=False)
        row[0].set_ylabel("share of the images")
    handles = [Line2D([], [], color=COLOURS[who], label=NAMES[who]) for who in ("teacher", "student")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def correlation_by_passes(curves: dict[str, dict[str, dict]], agreement: dict[str, dict]) -> Figure:
    """For each data set and measure, the correlation of N teacher passes (a curve), and of student and baselines
    (lines)."""
    figure, axes = grid(
        len(PANELS),
        len(curves),
        "Equivalent passes: where the student's correlation lies on the curve of N teacher passes",
    )
    for row, measure in zip(axes, PANELS):
        for axis, (name, curve) in zip(row, curves.items()):
            entry = agreement[name][measure]
            counts, reached = curve[measure]["passes"], curve[measure]["pearson"]
            axis.plot(counts, reached, "o-", ms=3, color=COLOURS["teacher"], label="teacher, N passes")
            axis.axhspan(*entry["pearson_ci"], color=COLOURS["student"], alpha=0.2, linewidth=0)
            axis.axhline(entry["pearson"], color=COLOURS["student"], label="student, 1 pass (95% interval)")
            axis.axhline(entry["noise_ceiling"], color=GREEN, linestyle=":", label="noise ceiling: a perfect student")
            axis.axhline(
                entry["baseline_pearson"], color=GREY, linestyle="--", label="baseline: one softmax, no dropout"
            )
            if entry["last_layer_pearson"] is not None:
                axis.axhline(
                    entry["last_layer_pearson"],
                    color=PINK,
                    linestyle="--",
                    label="baseline: dropout in the last layer alone",
                )
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # a baseline's line can lie there
            axis.text(
                0.97, 0.05, f"as {passes(entry)} passes", transform=axis.transAxes, ha="right", fontsize=8, bbox=box
            )
            low = np.nanmin([0.9, reached[0], entry["baseline_pearson"], entry["pearson_ci"][0]])
            ticks = [1, 2, 4, 8, 16, 32, 64]
            axis.set(xscale="log", xlim=(0.9, 1.15 * counts[-1]), ylim=(max(-0.1, low - 0.05), 1.02))
            axis.set_xticks(ticks[: np.searchsorted(ticks, counts[-1])], minor=False)
            axis.set_xticks([], minor=True)
            axis.xaxis.set_major_formatter("{x:.0f}")
            if row is axes[0]:
                axis.set_title(name)
            if row is axes[-1]:
                axis.set_xlabel("passes N")
            if name == next(iter(curves)):
                axis.set_ylabel(f"{MEASURE_NAMES[measure]}\nPearson with {entry['reference_passes']} other passes")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=min(3, len(curves)))
    return figure


def scale(
    teacher: dict[str, dict[str, ndarray]], student: dict[str, dict[str, ndarray]], agreement: dict[str, dict]
) -> Figure:
    """For each data set and measure, the teacher's mean in 20 quantile bins of the student; on the diagonal both have
    the same scale."""
    figure, axes = grid(
        len(PANELS), len(teacher), "Is the student's scale the teacher's? Means in 20 quantile bins of the student"
    )
    for row, measure in zip(axes, PANELS):
        for axis, name in zip(row, teacher):
            x, y = calibration(student[name][measure], teacher[name][measure])
            limit = 1.05 * max(x.max(), y.max())
            axis.plot([0, limit], [0, limit], color="black", linewidth=0.8)
            axis.plot(x, y, "o-", ms=3, color=COLOURS["student"])
            axis.set(xlim=(0, limit), ylim=(0, limit), aspect="equal")
            text = f"mean {defined(agreement[name][measure]['scale'], 2)} of the teacher's"
            axis.text(0.05, 0.9, text, transform=axis.transAxes, fontsize=8)
            axis.set_xlabel("student")
    _label_edges(axes, list(teacher), PANELS, "teacher")
    return figure


def _label_edges(axes: list[list[Axes]], names: list[str], measures: Sequence[str], left: str) -> None:
    """Write the data set above each column (the first is in distribution), and beside each row its measure and `left`,
    the network."""
    for column, (axis, name) in enumerate(zip(axes[0], names)):
        title = name if column else f"{name} (in distribution)"
        below = axis.get_title(loc="left")
        axis.set_title(title + "\n" * (below.count("\n") + 1 if below else 0))
    for row, measure in zip(axes, measures):
        row[0].set_ylabel(f"{axis_label(measure, lines=True)}\n{left}")
