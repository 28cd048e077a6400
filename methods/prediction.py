"""Predictions of a student or a teacher for the images of a folder. They are streamed, so memory does not grow with
their number."""

import csv
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from configs.errors import UserError
from data.folder import decode, images_below
from training import artifact
from training.bar import note, progress_bar
from uncertainty.dirichlet import Dirichlet
from uncertainty.distribution import MEASURES, Distribution

BATCH = 256  # images


def rows_of(distribution: Distribution, classes: list[str], threshold: float | None = None) -> Iterator[dict]:
    """A row for each input: its class and the class's probability, every measure, a Dirichlet's precision, and all
    probabilities. With a threshold also `answer`: whether the predictive entropy is not above it."""
    answers = [{}] * len(distribution.mean)
    if threshold is not None:
        answers = [{"answer": "yes" if x else "no"} for x in distribution.predictive_entropy <= threshold]
    numbers = {"probability": distribution.max_probability} | {
        measure: getattr(distribution, measure) for measure in MEASURES
    }
    if isinstance(distribution, Dirichlet):
        numbers["precision"] = distribution.precision
    numbers |= {f"p({name})": share for name, share in zip(classes, distribution.mean.T)}
    labels, values = distribution.predicted.tolist(), torch.stack(list(numbers.values()), 1).tolist()
    for label, answer, row in zip(labels, answers, values, strict=True):
        yield {"class": classes[label]} | answer | dict(zip(numbers, row))


def write_csv(path: Path, rows: Iterable[dict]) -> int:
    """Write a line for each row, as they come. Returns how many; there is no file if there are none. Raises UserError
    as `artifact`."""
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return 0
    with (
        artifact.replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        table = csv.DictWriter(file, first)
        table.writeheader()
        count = 0
        for row in chain([first], rows):
            count += 1
            table.writerow({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()})
    return count


def predictions(
    model: Any, predict: Callable[[Tensor], Distribution], folder: str | Path, threshold: float | None = None
) -> Iterator[dict]:
    """A row for each image below `folder`, or of the file `folder`: its path, and the columns of `rows_of`. A broken
    image is skipped, and a line names it. model: a student or a teacher, whose predictions these are."""
    a = model.architecture

    def read(path: Path) -> np.ndarray | None:
        try:
            return decode(path, a.shape, a.resize)
        except UserError as error:
            note(f"skipped: {error}")
            return None

    paths = images_below(Path(folder))
    with ThreadPoolExecutor() as pool, progress_bar(unit="image") as bar:
        while batch := list(islice(paths, BATCH)):
            kept = {path: image for path, image in zip(batch, pool.map(read, batch)) if image is not None}
            if kept:
                pixels = torch.from_numpy(np.stack(list(kept.values())))
                with torch.inference_mode():
                    distribution = predict(pixels.to(model.network.normalize.mean.device))
                for path, row in zip(kept, rows_of(distribution, model.classes, threshold)):
                    yield {"image": str(path)} | row
            bar.update(len(batch))
