"""Batches made ahead of use."""

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
    """fetch(part) of each of `parts`, in their order: when it is asked for, or, with workers, by processes of their own some batches ahead.

    It draws none of torch's random numbers. A worker's UserError is raised here as it is.
    """
    if not workers:
        yield from map(fetch, parts)
        return
    loader = DataLoader(
        _Fetched(fetch, parts), batch_size=None, num_workers=WORKERS, multiprocessing_context="fork", generator=torch.Generator()
    )
    for fetched in loader:
        if isinstance(fetched, UserError):
            raise fetched
        yield fetched
