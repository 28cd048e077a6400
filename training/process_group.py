"""Several processes as one run, started by torchrun; a process that is started alone is rank 0 of 1.

All ranks see the same files and come to the same calls of this module in the same order. The first writes the files of a run and prints.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training import PARENT
from training.errors import UserError

PATIENCE = timedelta(hours=2)  # for a rank that has more to do; a rank that dies ends the others at once, by torchrun


@contextmanager
def started() -> Iterator[None]:
    """Within this context the processes of one torchrun are one run."""
    if not dist.is_torchelastic_launched():
        yield
        return
    _end_with_torchrun()
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    yield
    barrier()
    dist.destroy_process_group()  # not after an error: it could wait for the others, while torchrun waits for this process to end


def _end_with_torchrun() -> None:
    """If torchrun is killed, this process ends too (on Linux): an orphan would join the next torchrun of the port, and hang with it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != PARENT:
        sys.exit(1)


def rank() -> int:
    """This process's number."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


def barrier() -> None:
    """Wait until all processes are here."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def first_process_first() -> Iterator[None]:
    """One process of each machine goes through this context before the others, which then find what it has downloaded or decoded."""
    leads = int(os.environ.get("LOCAL_RANK", 0)) == 0
    if not leads:
        barrier()
    yield
    if leads:
        barrier()


def require_alone(script: str) -> None:
    """Raise UserError if there are several processes."""
    if world_size() > 1:
        raise UserError(f"{script} runs in one process: start it without torchrun")


def own_gpu() -> torch.device:
    """Each process of a machine has a GPU of its own. Raises UserError if there are not as many."""
    place, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if place >= there:
        raise UserError(f"device: more processes on this machine than its {there} GPU: start one for each (--nproc-per-node {there})")
    torch.cuda.set_device(place)
    return torch.device("cuda", place)


def shard(rows: Tensor) -> Tensor:
    """This process's part of `rows`, which are alike in all of them."""
    size = -(-len(rows) // world_size())
    return rows[rank() * size : (rank() + 1) * size]


def gather(part: Tensor, total: int) -> Tensor:
    """Put together each process's share of `total` rows; every process gets all of them."""
    if world_size() == 1:
        return part
    size = -(-total // world_size())
    padded = torch.cat([part, part.new_zeros(size - len(part), *part.shape[1:])])
    parts = [torch.empty_like(padded) for _ in range(world_size())]
    dist.all_gather(parts, padded)
    return torch.cat(parts)[:total]


def mean(values: Tensor) -> Tensor:
    """The mean over all processes."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values / world_size()


def parallel(model: nn.Module) -> nn.Module:
    """A model whose gradients are the mean over all processes."""
    return DistributedDataParallel(model, broadcast_buffers=False) if world_size() > 1 else model


def broadcast_buffers(model: nn.Module) -> None:
    """Give all processes the first one's buffers: batch norm has counted other images in each."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
