"""What each choice of the recipe is worth: two figures, and a table of any file of experiments:

    python -m plots.ablation results/fidelity/heads.json
"""

import json
import sys

import numpy as np
from matplotlib.figure import Figure

from plots.style import BLUE, GREY, MEASURE_NAMES, ORANGE, PANELS, counted_worth, grid

SHOWN = ("total_variance", "mutual_information")


def worth_in(row: dict, measure: str) -> tuple[float, float]:
    """An experiment's worth in passes on the validation images, and its mean over the shifts; 100 and 0 stand for above and below."""
    passes = [counted_worth(entry[measure]) for entry in row["sets"].values()]
    return passes[0], float(np.mean(passes[1:]))


def table(rows: list[dict]) -> str:
    """Markdown: each experiment's worth in passes on the validation images, on their shifts, and its mean over the teacher's."""
    names = [MEASURE_NAMES[measure].split(" (")[0] for measure in PANELS]
    lines = ["| worth on validation images, on shifts; scale | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in rows:
        inside = next(iter(row["sets"].values()))
        cells = ["{:.0f}, {:.0f}; ×{:.2f}".format(*worth_in(row, measure), inside[measure]["scale"]) for measure in PANELS]
        lines.append(f"| {row['experiment']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def worth_by_recipe(rows: list[dict]) -> Figure:
    """A bar for each experiment, in order: worth on validation images and on their shifts."""
    figure = Figure(figsize=(11, 0.3 * len(rows) + 1.4), layout="constrained")
    figure.suptitle("What one student pass is worth, in passes of its teacher, as one thing is changed at a time")
    place = np.arange(len(rows))
    for axis, measure in zip(figure.subplots(1, 2, sharey=True), SHOWN):
        inside, shifted = np.array([worth_in(row, measure) for row in rows]).T
        axis.barh(place - 0.2, inside, 0.38, color=BLUE, label="validation images")
        axis.barh(place + 0.2, shifted, 0.38, color=ORANGE, label="their shifts (mean of four)")
        axis.set(title=MEASURE_NAMES[measure], xlabel="worth in passes")
        axis.set_yticks(place, [f"{row['experiment']}  {i}" for i, row in enumerate(rows, 1)])
        axis.grid(axis="x", linewidth=0.3)
    axis.invert_yaxis()
    axis.legend(loc="upper right")
    return figure


def worth_by_cost(rows: list[dict]) -> Figure:
    """Worth against the seconds of the student's training, a point for each experiment, by its number in `worth_by_recipe`."""
    figure, axes = grid(1, len(SHOWN), "Worth against the cost of the student's training (numbers: worth_by_recipe.png)", 4.6)
    for axis, measure in zip(axes[0], SHOWN):
        seconds = [row["student_seconds"] for row in rows]
        inside, shifted = np.array([worth_in(row, measure) for row in rows]).T
        axis.vlines(seconds, inside, shifted, color=GREY, linewidth=0.5)
        axis.scatter(seconds, inside, s=16, color=BLUE, label="validation images")
        axis.scatter(seconds, shifted, s=16, color=ORANGE, label="their shifts")
        for number, place in enumerate(zip(seconds, inside), 1):
            axis.annotate(str(number), place, fontsize=7, xytext=(3, 1), textcoords="offset points")
        axis.set(title=MEASURE_NAMES[measure], xlabel="training of the student, seconds", ylabel="worth in passes")
    axes[0][0].legend(loc="lower right")
    return figure


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        print(table(json.load(file)["experiments"]))
