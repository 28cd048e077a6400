"""The images behind the numbers."""

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray

from plots.style import axis_label, grid


def extremes(images: ndarray, measures: dict[str, ndarray], labels: list[str], dataset: str, count: int = 8) -> Figure:
    """The images with the least and the most of each uncertainty, by the student, with what it predicts.

    images: uint8 [N, H, W, C]; measures: {measure: [N]}; labels: a line for each image.
    """
    shown = ("total_variance", "expected_entropy", "predictive_entropy")
    figure, axes = grid(2 * len(shown), count, f"{dataset}: the images of least and most uncertainty, by the student", 1.25)
    for i, measure in enumerate(shown):
        order = np.argsort(measures[measure], kind="stable")
        for row, chosen, which in ((axes[2 * i], order[:count], "least"), (axes[2 * i + 1], order[::-1][:count], "most")):
            for axis, index in zip(row, chosen):
                image = images[index]
                axis.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=255)
                axis.set_title(labels[index], fontsize=6)
                axis.set_axis_off()
            row[0].set_axis_on()
            row[0].set(xticks=[], yticks=[])
            row[0].set_ylabel(which + "\n" + axis_label(measure).replace(" (", "\n("), fontsize=6)
    return figure
