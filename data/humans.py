"""CIFAR-10H: the labels that about fifty people gave to each CIFAR-10 test image (Peterson et al. 2019)."""

import csv
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from configs.errors import UserError
from data.dataset import Dataset

PLACE = "cifar10-test-{:05d}"  # the name of an image in CIFAR-10's own files


def load(path: Path, dataset: Dataset) -> Tensor:
    """How many people chose each class, float64 [N, C], for the images of `dataset`, in its order.

    A CSV file names its images. The authors' array has CIFAR-10's test order, and its classes in alphabetical order.
    Raises UserError if an image or a class has no labels, or if a count is not valid.
    """
    try:
        rows = rows_of(path, dataset)
        if missing := [name for name in dataset.names if name not in rows]:
            hint = "" if path.suffix == ".csv" else "; labels in CIFAR-10's own order need CIFAR-10's own files"
            raise UserError(f"{path}: no labels for {len(missing)} images, such as {missing[0]}{hint}")
        counts = torch.tensor([list(map(float, rows[name])) for name in dataset.names], dtype=torch.float64)
    except (OSError, ValueError, TypeError, EOFError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as people's labels ({error})") from None
    wrong = ~(counts.isfinite() & (counts >= 0)).all(1) | (counts.sum(1) <= 0)
    if wrong.any():
        first = dataset.names[int(wrong.nonzero()[0])]
        raise UserError(f"{path}: {int(wrong.sum())} images have labels that are not counts, such as {first}")
    return counts


def rows_of(path: Path, dataset: Dataset) -> dict[str, list]:
    """The counts of each image, by its name: in a CSV file by its path (`image`), and by its place in CIFAR-10's test
    order (`test_index`); there is a column for each class."""
    classes = dataset.classes
    if path.suffix != ".csv":
        counts = np.load(path)
        if counts.shape != (len(dataset), len(classes)):
            raise UserError(
                f"{path}: labels of shape {counts.shape} for {len(dataset)} images of {len(classes)} classes"
            )
        return {PLACE.format(i): row for i, row in enumerate(counts)}
    with open(path, newline="") as file:
        table = list(csv.DictReader(file))
    if missing := {"image", "test_index", *classes} - set(table[0] if table else ()):
        raise UserError(f"{path}: no column {min(missing)!r}")
    rows = {}
    for row in table:
        for name in (row["image"], PLACE.format(int(row["test_index"]))):
            if name in rows:
                raise UserError(f"{path}: two rows of image {name}")
            rows[name] = [row[c] for c in classes]
    return rows
