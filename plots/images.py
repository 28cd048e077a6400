"""The images behind the numbers."""

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray

from plots.style import MEASURE_NAMES, UNITS, Values, panels

COUNT = 5  # images in a row
ROWS = (("predictive_entropy", "least"), ("total_variance", "most"), ("entropy_minus_variance", "most"))


def extremes(
    images: ndarray,
    teacher: Values,
    student: Values,
    names: list[str],
    true: list[str],
    said: list[str],
    dataset: str,
) -> Figure:
    """The images with the least uncertainty, with the most epistemic and with the most aleatoric uncertainty, by the
    student; no image twice. Each with its name, its class, and the values of student and teacher.

    images: uint8 [N, H, W, C]; teacher, student: {measure: [N]}; names, true, said: of each image its name, its class
    ("?": unknown) and the student's class.
    """
    chosen = {}
    for measure, which in ROWS:
        order = np.argsort(student[measure], kind="stable")[:: 1 if which == "least" else -1]
        before = sum(chosen.values(), [])
        chosen[measure, which] = [i for i in order.tolist() if i not in before][:COUNT]
    right = [np.sum([true[i] == said[i] for i in of]) for of in chosen.values()]
    title = f"{dataset}: what the student is surest and least sure of"
    if any(right):  # the set has the student's classes
        surest, *others = map(len, chosen.values())
        title = f"{dataset}: the student is right on {right[0]} of the {surest} images that it is surest of, "
        title += f"and on {sum(right[1:])} of the {sum(others)} that it is least sure of"
    figure, axes = panels(title, chosen, range(COUNT), 2.1)
    for (row, place), axis in axes.items():
        measure, which = row
        axis.set(xticks=[], yticks=[])
        if place == 0:
            axis.set_ylabel(f"{which} {MEASURE_NAMES[measure].replace(' (', chr(10) + '(')}")
        if place >= len(chosen[row]):
            axis.axis("off")
            continue
        index = chosen[row][place]
        axis.imshow(np.broadcast_to(images[index], (*images.shape[1:3], 3)))
        name = names[index].split("/")[-1]
        name = name if len(name) <= 24 else f"{name[:11]}…{name[-12:]}"
        both = f"{student[measure][index]:.3f} (teacher {teacher[measure][index]:.3f}) {UNITS[measure]}"
        between = "; " if len(true[index] + said[index]) < 20 else "\n"
        caption = f"{name}\ntrue: {true[index]}{between}student: {said[index]}\n{both}"
        axis.set_title(caption, fontsize=8, parse_math=False)  # a name can contain $
    return figure
