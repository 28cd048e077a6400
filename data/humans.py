"""CIFAR-10H: the labels that about fifty people gave to each CIFAR-10 test image (Peterson et al. 2019)."""

import csv
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from configs.errors import UserError
from data.dataset import Dataset


def load(path: Path, dataset: Dataset) -> Tensor:
    """How many people chose each class, float64 [N, C], for the images of `dataset`, in its order.

    Raises UserError if an image or a class has no labels, if a count is not valid, or if a file in CIFAR-10's own order
    is used with images from folders.
    """
    try:
        counts = _from_csv(path, dataset) if path.suffix == ".csv" else _from_array(path, dataset)
    except (OSError, ValueError, KeyError, TypeError, EOFError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as people's labels ({error})") from None
    wrong = ~(counts.isfinite() & (counts >= 0)).all(1) | (counts.sum(1) <= 0)
    if wrong.any():
        first = dataset.names[int(wrong.nonzero()[0])]
        raise UserError(f"{path}: {int(wrong.sum())} images have labels that are not counts, such as {first}")
    return counts


def _from_array(path: Path, dataset: Dataset) -> Tensor:
    """The authors' file: counts [10000, 10] in CIFAR-10's test order, classes in alphabetical order."""
    counts = np.load(path)
    if counts.shape != (len(dataset), len(dataset.classes)):
        raise UserError(
            f"{path}: labels of shape {counts.shape} for {len(dataset)} images of {len(dataset.classes)} classes"
        )
    prefix = "cifar10-test-"
    if not dataset.names[0].startswith(prefix):
        raise UserError(
            f"{path}: labels in CIFAR-10's own order need CIFAR-10's own files; images from folders need the CSV form"
        )
    return torch.from_numpy(counts).double()[[int(name.removeprefix(prefix)) for name in dataset.names]]


def _from_csv(path: Path, dataset: Dataset) -> Tensor:
    """One row per image: its path (`image`), its place in CIFAR-10's test order (`test_index`), and a column for each
    class."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    missing = {"image", "test_index", *dataset.classes} - set(rows[0] if rows else ())
    if missing:
        raise UserError(f"{path}: no column {min(missing)!r}")
    images, places = [row["image"] for row in rows], [f"cifar10-test-{int(row['test_index']):05d}" for row in rows]
    for names in (images, places):
        if len(set(names)) < len(names):
            raise UserError(f"{path}: two rows of image {max(names, key=names.count)}")
    row_of = dict(zip(images, rows)) | dict(zip(places, rows))
    unknown = [name for name in dataset.names if name not in row_of]
    if unknown:
        raise UserError(f"{path}: no labels for {len(unknown)} images, such as {unknown[0]}")
    return torch.tensor(
        [[float(row_of[name][c]) for c in dataset.classes] for name in dataset.names], dtype=torch.float64
    )
