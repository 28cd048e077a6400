"""The images behind the numbers."""

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray

from plots.style import TRUONG, axis_label, panels


def extremes(
    images: ndarray,
    teacher: dict[str, ndarray],
    student: dict[str, ndarray],
    names: list[str],
    classes: list[str],
    dataset: str,
    count: int = 8,
) -> Figure:
    """The images with the least and the most of each uncertainty, by the student: name, class, and the values of
    teacher and student.

    images: uint8 [N, H, W, C]; teacher, student: {measure: [N]}; names, classes: a line for each image.
    """
    title = f"{dataset}: the images of least and most uncertainty, by the student"
    rows = [(measure, which) for measure in TRUONG for which in ("least", "most")]
    figure, axes = panels(title, rows, range(count), 1.6)
    for ((measure, which), place), axis in axes.items():
        axis.set(xticks=[], yticks=[])
        if place == 0:
            axis.set_ylabel(f"{which}\n{axis_label(measure, lines=True)}", fontsize=6)
        if place < len(images):
            order = np.argsort(student[measure], kind="stable")
            index = order[place if which == "least" else -1 - place]
            axis.imshow(images[index].squeeze(), cmap="gray", vmin=0, vmax=255)
            name = names[index].split("/")[-1]
            name = name if len(name) <= 28 else f"{name[:13]}…{name[-14:]}"
            values = f"teacher {teacher[measure][index]:.3f}, student {student[measure][index]:.3f}"
            axis.set_title(f"{name}\n{classes[index]}\n{values}", fontsize=5, parse_math=False)  # a name can contain $
    return figure
