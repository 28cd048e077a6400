"""Predictions of a student or a teacher for the images of a folder. They are streamed, so memory does not grow with their number."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.folder import decode, images_below
from models.architecture import Architecture
from training.bar import note, progress_bar
from training.errors import UserError
from uncertainty.distribution import MEASURES, Distribution


def columns(classes: list[str]) -> list[str]:
    """The names of the columns of a prediction."""
    return ["image", "class", "probability", *MEASURES, *(f"p({name})" for name in classes)]


def predictions(
    model: Callable[[Tensor], Distribution], a: Architecture, classes: list[str], folder: Path, device: torch.device, batch_size: int = 256
) -> Iterator[dict[str, Any]]:
    """A row for each image below `folder`, with the names of `columns`. A broken image is skipped, and a line names it."""

    def read(path: Path) -> np.ndarray | None:
        try:
            return decode(path, a.size, a.channels, a.resize)
        except UserError as error:
            note(f"skipped: {error}")
            return None

    paths = images_below(folder)
    with ThreadPoolExecutor() as pool, progress_bar(unit="image") as bar:
        while batch := list(islice(paths, batch_size)):
            kept = {path: image for path, image in zip(batch, pool.map(read, batch)) if image is not None}
            if kept:
                distribution = model(torch.from_numpy(np.stack(list(kept.values()))).to(device))
                measures = torch.stack([distribution.max_probability, *(getattr(distribution, m) for m in MEASURES)], 1)
                numbers = torch.cat([measures, distribution.mean], 1).tolist()
                for path, label, values in zip(kept, distribution.predicted.tolist(), numbers):
                    yield dict(zip(columns(classes), [str(path), classes[label], *values]))
            bar.update(len(batch))
