"""The loader of all images: torch's DataLoader over whole batches."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from configs.errors import UserError

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # macOS has none
WORKERS = min(16, CORES or 1)


class Batches:
    """A data set whose items are whole batches."""

    def __init__(self, read: Callable[[Any], Any]):
        self.read = read

    def __getitem__(self, batch: Any) -> Any:
        try:
            return self.read(batch)
        except UserError as error:  # as a value: DataLoader would wrap it in a worker's traceback
            return error


def loader(read: Callable[[Any], Any], batches: Sequence[Any], lazy: bool) -> Iterator[Any]:
    """read(batch) for each of `batches`, in order. lazy: by worker processes, some batches before they are needed.

    It leaves torch's random generator as it is. Raises the UserError of a worker unchanged.
    """
    workers = {"num_workers": WORKERS, "multiprocessing_context": "fork"} if lazy else {}
    for batch in DataLoader(Batches(read), batch_size=None, sampler=batches, generator=torch.Generator(), **workers):
        if isinstance(batch, UserError):
            raise batch
        yield batch
