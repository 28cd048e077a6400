"""Training curves."""

import numpy as np
from matplotlib.figure import Figure

from plots.style import BLUE, GREY, panels

LOOKS = {  # name, colour and line of each column of a history
    "loss": ("loss in training", BLUE, "-"),
    "validation_loss": ("loss in validation (dashed)", BLUE, "--"),
    "accuracy": ("accuracy in training", GREY, "-"),
    "validation_accuracy": ("accuracy in validation (dashed)", GREY, "--"),
}


def training_curves(histories: dict[str, list[dict[str, float]]], losses: dict[str, str]) -> Figure:
    """For each network the loss and, if it is known, the accuracy by epoch: in training and, if there is any, in
    validation.

    histories: {"teacher": rows, "student": rows}, one row an epoch; none for a network that was trained elsewhere,
    which is left out. losses: what each one's loss is.
    """
    histories = {who: rows for who, rows in histories.items() if rows}
    lower = [who for who, rows in histories.items() if rows[-1].get("validation_loss", np.inf) < rows[-1]["loss"]]
    title = "Training: loss and accuracy of each epoch"
    if lower:
        title = f"Training: validation lies below training ({' and '.join(lower)}), as its images are unchanged and "
        title += "dropout is off"
    figure, axes = panels(title, ["loss"], histories, 3.9)
    for (_, who), axis in axes.items():
        rows = histories[who]
        epochs = [row["epoch"] for row in rows]
        axis.set(title=who, xlabel="epoch", ylabel=losses[who])
        lines = []
        right = axis.twinx() if "accuracy" in rows[0] else axis
        for key, (name, colour, style) in LOOKS.items():
            if key in rows[0]:
                at = right if "accuracy" in key else axis
                lines += at.plot(epochs, [row[key] for row in rows], style, color=colour, label=name)
        if right is not axis:
            right.set(ylabel="accuracy", ylim=(0, 1))
            right.spines["right"].set_visible(True)
        axis.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
    return figure
