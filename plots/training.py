"""Training curves."""

from matplotlib.figure import Figure

from plots.style import BLUE, GREY, ORANGE, grid


def training_curves(histories: dict[str, list[dict[str, float]]], losses: dict[str, str]) -> Figure:
    """For each network the loss and, if it is known, the accuracy by epoch: in training and, if there is any, in
    validation.

    histories: {"teacher": rows, "student": rows}, one row an epoch; none for a network that was trained elsewhere,
    which is left out. losses: what each one's loss is.
    """
    histories = {who: rows for who, rows in histories.items() if rows}
    figure, axes = grid(1, len(histories), "Training", 3.6)
    for axis, (who, rows) in zip(axes[0], histories.items()):
        epochs = [row["epoch"] for row in rows]
        for key, colour, label in (("loss", BLUE, "training loss"), ("validation_loss", ORANGE, "validation loss")):
            if key in rows[0]:
                axis.plot(epochs, [row[key] for row in rows], color=colour, label=label)
        axis.set(title=who, xlabel="epoch", ylabel=losses[who])
        lines = axis.get_lines()
        if "accuracy" in rows[0]:
            right = axis.twinx()
            right.set(ylabel="accuracy", ylim=(0, 1))
            right.spines["right"].set_visible(True)
            for key, style in (("accuracy", "--"), ("validation_accuracy", ":")):
                if key in rows[0]:
                    right.plot(epochs, [row[key] for row in rows], style, color=GREY, label=key.replace("_", " "))
            lines = [*lines, *right.get_lines()]
        axis.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
    return figure
