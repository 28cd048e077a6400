"""Worker processes that make batches ahead of use."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from training.errors import UserError

WORKERS = max(1, min(16, len(os.sched_getaffinity(0))))


class _Fetched(Dataset):
    def __init__(self, fetch: Callable[[Any], Any], parts: Sequence[Any]):
        self.fetch = fetch
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, i: int) -> Any:
        try:
            return self.fetch(self.parts[i])
        except UserError as error:
            return error


def ahead(fetch: Callable[[Any], Any], parts: Sequence[Any], workers: bool) -> Iterator[Any]:
    """fetch(part) for each of `parts`, in order: on demand, or, with workers, by worker processes some batches ahead.

    It leaves torch's random generator as it is. A worker's UserError is raised here unchanged.
    """
    if not workers:
        yield from map(fetch, parts)
        return
    loader = DataLoader(
        _Fetched(fetch, parts),
        batch_size=None,
        num_workers=WORKERS,
        multiprocessing_context="fork",
        generator=torch.Generator(),
    )
    for fetched in loader:
        if isinstance(fetched, UserError):
            raise fetched
        yield fetched
