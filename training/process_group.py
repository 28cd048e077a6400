"""One run in several processes, started by torchrun. A process that is started alone is rank 0 of 1.

All ranks see the same files and make the same calls of this module in the same order. Only rank 0 writes the files of a
run and prints.
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

from configs.errors import UserError
from configs.start import PARENT

PATIENCE = timedelta(hours=2)  # how long ranks wait for a slower one; if a rank dies, torchrun ends the others at once


@contextmanager
def started() -> Iterator[None]:
    """Within this context the processes of one torchrun are a process group."""
    if not dist.is_torchelastic_launched():
        yield
        return
    _end_with_torchrun()
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    yield
    barrier()
    dist.destroy_process_group()  # not after an error: it could wait for others, as torchrun for this process


def _end_with_torchrun() -> None:
    """End this process if torchrun is killed (on Linux). An orphan would join the next torchrun on the same port, and
    both would hang."""
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
    """One process of each machine goes through this context before the others, which then find what it has downloaded
    or decoded."""
    leads = int(os.environ.get("LOCAL_RANK", 0)) == 0
    if not leads:
        barrier()
    yield
    if leads:
        barrier()


def own_gpu() -> torch.device:
    """This process's GPU: each process of a machine has its own. Raises UserError if there are fewer GPUs than
    processes."""
    place, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if place >= there:
        raise UserError(
            f"device: this machine has {there} GPU for more processes: start one for each (--nproc-per-node {there})"
        )
    torch.cuda.set_device(place)
    return torch.device("cuda", place)


def shard(rows: Tensor) -> Tensor:
    """This process's shard of `rows`; `rows` is the same in all processes."""
    size = -(-len(rows) // world_size())
    return rows[rank() * size : (rank() + 1) * size]


def gather(part: Tensor, total: int) -> Tensor:
    """Concatenate the shards of all processes, `total` rows together; every process gets all of them."""
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
    """A model whose gradients are averaged over all processes. A part with the attribute `may_have_unused` can have
    weights without a gradient."""
    if world_size() == 1:
        return model
    unused = any(hasattr(part, "may_have_unused") for part in model.modules())
    return DistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=unused)


def broadcast_buffers(model: nn.Module) -> None:
    """Copy the buffers of rank 0 to all processes: batch norm has seen other images in each process."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
