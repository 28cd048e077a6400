"""The student's uncertainties beside the teacher's."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray

from plots.style import COLOURS, GREEN, GREY, MEASURE_NAMES, NAMES, PANELS, PINK, SKY, axis_label, grid, worth
from uncertainty.agreement import calibration


def teacher_against_student(
    teacher: dict[str, dict[str, ndarray]], student: dict[str, dict[str, ndarray]], agreement: dict[str, dict]
) -> Figure:
    """A column for each data set, a row for each measure: density of (teacher, student), and what the correlation is worth.

    teacher, student: {data set: {measure: [N]}}; agreement: that part of metrics.json.
    """
    figure, axes = grid(len(PANELS), len(teacher), "Teacher (MC-dropout) against student (one pass): each input's uncertainty")
    for row, measure in zip(axes, PANELS):
        for axis, name in zip(row, teacher):
            x, y = teacher[name][measure], student[name][measure]
            limit = max(np.quantile(x, 0.999), np.quantile(y, 0.999))
            inside = (x <= limit) & (y <= limit)
            axis.hexbin(x[inside], y[inside], gridsize=45, bins="log", cmap="cividis", linewidths=0, extent=(0, limit, 0, limit))
            axis.plot([0, limit], [0, limit], color=COLOURS["student"], linewidth=1)
            axis.set(xlim=(0, limit), ylim=(0, limit), aspect="equal")
            entry = agreement[name][measure]
            text = "\n".join([
                f"Pearson {entry['pearson']:.3f}",
                f"Spearman {entry['spearman']:.3f}",
                f"worth {worth(entry)} passes",
                f"limit {entry['limit_pearson']:.3f}, floor {entry['floor_pearson']:.3f}",
            ])
            box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.5}
            above = np.mean(y > x) > 0.5  # then the lower right corner is the emptier one
            left, bottom, ha, va = (0.97, 0.03, "right", "bottom") if above else (0.03, 0.97, "left", "top")
            axis.text(left, bottom, text, ha=ha, va=va, transform=axis.transAxes, fontsize=7, bbox=box)
    _label_edges(axes, list(teacher), "teacher", "student")
    return figure


def histograms(teacher: dict[str, dict[str, ndarray]], student: dict[str, dict[str, ndarray]]) -> Figure:
    """Two rows, the data sets (in distribution, out of it); three columns, the kinds of uncertainty; both networks overlaid."""
    columns = ("total_variance", "expected_entropy", "predictive_entropy")
    figure, axes = grid(len(teacher), len(columns), "Distribution of each uncertainty: " + " and ".join(teacher), 3.0)
    for row, name in zip(axes, teacher):
        for axis, measure in zip(row, columns):
            values = {"teacher": teacher[name][measure], "student": student[name][measure]}
            top = max(np.quantile(v[measure], 0.995) for both in (teacher, student) for v in both.values())
            for who, x in values.items():
                axis.hist(x.clip(max=top), bins=np.linspace(0, top, 41), histtype="stepfilled", alpha=0.35, color=COLOURS[who])
                axis.hist(x.clip(max=top), bins=np.linspace(0, top, 41), histtype="step", color=COLOURS[who], label=NAMES[who])
            axis.set(title=name, xlabel=axis_label(measure), ylabel="images", yscale="log")
            axis.tick_params(axis="y", which="minor", labelleft=False)
    axes[0][-1].legend()
    return figure


def correlation_by_passes(curves: dict[str, dict[str, dict]], agreement: dict[str, dict]) -> Figure:
    """For each data set and measure, what N teacher passes reach (a curve), and where student and floor stand (lines)."""
    figure, axes = grid(len(PANELS), len(curves), "How many teacher passes is one student pass worth?")
    for row, measure in zip(axes, PANELS):
        for axis, (name, curve) in zip(row, curves.items()):
            entry = agreement[name][measure]
            passes, reached = curve[measure]["passes"], curve[measure]["pearson"]
            axis.plot(passes, reached, "o-", ms=3, color=COLOURS["teacher"], label="teacher, N passes")
            axis.axhspan(*entry["pearson_ci"], color=COLOURS["student"], alpha=0.2, linewidth=0)
            axis.axhline(entry["pearson"], color=COLOURS["student"], label="student, 1 pass (95% interval)")
            axis.axhline(entry["limit_pearson"], color=GREEN, linestyle=":", label="limit: a perfect student")
            if entry["family_limit_pearson"] is not None:
                axis.axhline(entry["family_limit_pearson"], color=SKY, linestyle="-.", label="limit of the student's family")
            axis.axhline(entry["floor_pearson"], color=GREY, linestyle="--", label="floor: one softmax, no dropout")
            if entry["floor_head_pearson"] is not None:
                axis.axhline(entry["floor_head_pearson"], color=PINK, linestyle="--", label="floor: dropout in the head alone")
            axis.text(0.97, 0.05, f"worth {worth(entry)}", transform=axis.transAxes, ha="right", fontsize=8)
            low = np.nanmin([0.9, reached[0], entry["floor_pearson"], entry["pearson_ci"][0]])
            ticks = [1, 2, 4, 8, 16, 32, 64]
            axis.set(xscale="log", xlim=(0.9, 1.15 * passes[-1]), ylim=(max(-0.1, low - 0.05), 1.02))
            axis.set_xticks(ticks[: np.searchsorted(ticks, passes[-1])], minor=False)
            axis.set_xticks([], minor=True)
            axis.xaxis.set_major_formatter("{x:.0f}")
            if row is axes[0]:
                axis.set_title(name)
            if row is axes[-1]:
                axis.set_xlabel("passes N")
            if name == next(iter(curves)):
                axis.set_ylabel(f"{MEASURE_NAMES[measure]}\nPearson with {entry['reference_passes']} other passes")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def scale(teacher: dict[str, dict[str, ndarray]], student: dict[str, dict[str, ndarray]], agreement: dict[str, dict]) -> Figure:
    """For each data set and measure, the teacher's mean in 20 quantile bins of the student: on the diagonal, a threshold means the same."""
    figure, axes = grid(len(PANELS), len(teacher), "Is the student's scale the teacher's? Means in 20 quantile bins of the student")
    for row, measure in zip(axes, PANELS):
        for axis, name in zip(row, teacher):
            x, y = calibration(student[name][measure], teacher[name][measure])
            limit = 1.05 * max(x.max(), y.max())
            axis.plot([0, limit], [0, limit], color="black", linewidth=0.8)
            axis.plot(x, y, "o-", ms=3, color=COLOURS["student"])
            axis.set(xlim=(0, limit), ylim=(0, limit), aspect="equal")
            text = f"mean {agreement[name][measure]['scale']:.2f} of the teacher's"
            axis.text(0.05, 0.9, text, transform=axis.transAxes, fontsize=8)
    _label_edges(axes, list(teacher), "student", "teacher")
    return figure


def _label_edges(axes: list[list[Axes]], names: list[str], below: str, left: str) -> None:
    """Titles above the columns, one for each data set (the first is in distribution); who is below and who is to the left."""
    for column, (axis, name) in enumerate(zip(axes[0], names)):
        axis.set_title(name if column else f"{name} (in distribution)")
        axes[-1][column].set_xlabel(below)
    for row, measure in zip(axes, PANELS):
        row[0].set_ylabel(f"{axis_label(measure)}\n{left}")
