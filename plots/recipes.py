"""The effect of each choice in a recipe: a table and two figures of a comparison on validation images."""

import numpy as np
from matplotlib.figure import Figure

from plots.style import BLUE, GREY, MEASURE_NAMES, ORANGE, PANELS, grid

SHOWN = ("total_variance", "mutual_information")


def passes_in(record: dict, measure: str) -> tuple[float, float]:
    """A row's equivalent passes on the validation images, and their mean over the shifts. NaN for a measure that its method lacks."""
    if not all(measure in entry for entry in record["agreement"].values()):
        return np.nan, np.nan
    inside, *shifted = [entry[measure]["equivalent_passes"] or 0.0 for entry in record["agreement"].values()]
    return inside, float(np.mean(shifted))


def passes_table(records: list[dict]) -> str:
    """Markdown: each row's equivalent passes on the validation images, on their shifts, and its mean over the teacher's."""
    names = [MEASURE_NAMES[measure].split(" (")[0] for measure in PANELS]
    lines = ["| equivalent passes on validation images, on shifts; scale | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for record in records:
        inside = next(iter(record["agreement"].values()))
        cells = [
            "{:.0f}, {:.0f}; ×{:.2f}".format(*passes_in(record, measure), inside[measure]["scale"]) if measure in inside else "-"
            for measure in PANELS
        ]
        lines.append(f"| {record['title']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def passes_by_recipe(records: list[dict]) -> Figure:
    """A bar for each row, in order: equivalent passes on validation images and on their shifts."""
    figure = Figure(figsize=(11, 0.3 * len(records) + 1.4), layout="constrained")
    figure.suptitle("Equivalent passes of one student pass, as one thing is changed at a time")
    place = np.arange(len(records))
    for axis, measure in zip(figure.subplots(1, 2, sharey=True), SHOWN):
        inside, shifted = np.array([passes_in(record, measure) for record in records]).T
        axis.barh(place - 0.2, inside, 0.38, color=BLUE, label="validation images")
        axis.barh(place + 0.2, shifted, 0.38, color=ORANGE, label="their shifts (mean of four)")
        axis.set(title=MEASURE_NAMES[measure], xlabel="equivalent passes")
        axis.set_yticks(place, [f"{record['title']}  {i}" for i, record in enumerate(records, 1)])
        axis.grid(axis="x", linewidth=0.3)
    axis.set_ylim(len(records) - 0.4, -0.6)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    return figure


def passes_by_cost(records: list[dict]) -> Figure:
    """Equivalent passes against the seconds of the student's training, a point for each row, by its number in `passes_by_recipe`."""
    figure, axes = grid(1, len(SHOWN), "Equivalent passes against the cost of the student's training (numbers: passes_by_recipe.png)", 4.6)
    for axis, measure in zip(axes[0], SHOWN):
        trained = [(number, record) for number, record in enumerate(records, 1) if "student" in record["seconds"]]
        seconds = [record["seconds"]["student"] for _, record in trained]
        inside, shifted = np.array([passes_in(record, measure) for _, record in trained]).T
        axis.vlines(seconds, inside, shifted, color=GREY, linewidth=0.5)
        axis.scatter(seconds, inside, s=16, color=BLUE, label="validation images")
        axis.scatter(seconds, shifted, s=16, color=ORANGE, label="their shifts")
        for (number, _), place in zip(trained, zip(seconds, inside)):
            axis.annotate(str(number), place, fontsize=7, xytext=(3, 1), textcoords="offset points")
        axis.set(title=MEASURE_NAMES[measure], xscale="log", xlabel="training of the student, seconds", ylabel="equivalent passes")
        axis.xaxis.set_minor_formatter("")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
