"""The images behind the numbers."""

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray

from plots.style import TRUONG, axis_label, grid


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
    figure, axes = grid(
        2 * len(TRUONG), count, f"{dataset}: the images of least and most uncertainty, by the student", 1.6
    )
    for i, measure in enumerate(TRUONG):
        order = np.argsort(student[measure], kind="stable")
        for row, chosen, which in (
            (axes[2 * i], order[:count], "least"),
            (axes[2 * i + 1], order[::-1][:count], "most"),
        ):
            for axis, index in zip(row, chosen):
                image = images[index]
                axis.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=255)
                name = names[index].split("/")[-1]
                values = f"teacher {teacher[measure][index]:.3f}, student {student[measure][index]:.3f}"
                lines = [name if len(name) <= 28 else f"{name[:13]}…{name[-14:]}", classes[index], values]
                axis.set_title("\n".join(lines), fontsize=5, parse_math=False)  # a name can contain $
                axis.set(xticks=[], yticks=[])
            row[0].set_ylabel(f"{which}\n{axis_label(measure, lines=True)}", fontsize=6)
    return figure
