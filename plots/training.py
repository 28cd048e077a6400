"""How the training went."""

from matplotlib.figure import Figure

from plots.style import BLUE, GREY, ORANGE, grid


def training_curves(histories: dict[str, list[dict[str, float]]]) -> Figure:
    """For each network its loss and, where it has one, its accuracy by epoch: training and, if there is any, validation.

    histories: {"teacher": rows, "student": rows}, one row an epoch.
    """
    figure, axes = grid(1, len(histories), "Training", 3.6)
    for axis, (who, rows) in zip(axes[0], histories.items()):
        epochs = [row["epoch"] for row in rows]
        for key, colour, label in (("loss", BLUE, "training loss"), ("validation_loss", ORANGE, "validation loss")):
            if key in rows[0]:
                axis.plot(epochs, [row[key] for row in rows], color=colour, label=label)
        unit = "cross-entropy, nats" if "accuracy" in rows[0] else "loss"
        axis.set(title=who, xlabel="epoch", ylabel=unit)
        lines, place = axis.get_lines(), "best"
        if "accuracy" in rows[0]:
            right = axis.twinx()
            right.set(ylabel="accuracy", ylim=(0, 1))
            right.spines["right"].set_visible(True)
            for key, style in (("accuracy", "--"), ("validation_accuracy", ":")):
                if key in rows[0]:
                    right.plot(epochs, [row[key] for row in rows], style, color=GREY, label=key.replace("_", " "))
            lines, place = [*lines, *right.get_lines()], "center right"
        axis.legend(handles=lines, loc=place)
    return figure
