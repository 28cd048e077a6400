"""The cache of a teacher's samples: made once, used by every student, never used where it does not match.

`mc_samples/<data set>-<role>-<view>x<passes>.safetensors` (`...-function` in that mode) holds, for each input, the statistics of
`uncertainty.samples.statistics`, its mask group and, if asked for, all samples `log_probs` [N, T, C].
"""

import glob
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from numpy import ndarray
from torch import Tensor

from configs.schema import Config, McDropout
from data.dataset import Dataset
from data.views import View, make_views
from training import artifact, process_group
from training.bar import progress_bar
from training.compute import Compute
from training.errors import UserError
from training.run import Run, difference
from uncertainty.mc_dropout import Plan
from uncertainty.samples import Samples, statistics

VERSION = 3  # of the file's layout and of how masks are drawn: a change of either makes old files unusable
SAVE_EVERY_S = 60.0
KIND = "cache of samples"
REFERENCE = ("reference-a", "reference-b")  # the roles of its halves

Sampling = Callable[..., Iterator[tuple[int, Tensor, Tensor]]]
"""(indices → images, groups, plan, batch size) → samples, group by group."""


@dataclass(frozen=True)
class Work:
    """What is to be sampled: `count` images of a view; request: all that decides the samples."""

    request: dict[str, Any]
    plan: Plan
    count: int
    view: View
    batch_size: int
    sampler: Sampling


class SampleCache:
    """The samples of one teacher, made when they are first asked for.

    samplers: (images, groups, plan, batch size) → samples group by group, as a `mc_dropout.Sampler`; the second is for the reference's
    second half, which nothing is learnt from. checksum: of the teacher's weights. seconds: what sampling all that was asked for has taken,
    in this process or an earlier one. anew: with --overwrite, make all samples again.
    """

    def __init__(self, config: Config, run: Run, compute: Compute, samplers: tuple[Sampling, Sampling], checksum: str, anew: bool = False):
        self.config = config
        self.folder = config.source / "mc_samples"
        self.run = run
        self.compute = compute
        self.samplers = samplers
        self.checksum = checksum
        self.anew = anew
        self.seconds = 0.0

    def get(self, dataset: Dataset, role: str, view: View, settings: McDropout, keep_samples: bool) -> dict[str, Tensor]:
        """Statistics, mask groups (and samples, if kept) of the teacher on a view of `dataset`, in its order.

        role says what they are for: roles never share a mask. A file made for another request, or damaged, is made again with a
        line that says why; a partial one is continued.
        """
        key = (self.config.seed, role, dataset.name, view.name)
        plan = Plan(settings.passes, settings.masks, settings.group_size, key)
        request = {
            "version": VERSION,
            "teacher": self.checksum,
            "data": dataset.fingerprint,
            "view": view.spec,
            "compute": [self.compute.device.type, self.compute.dtype],
            "keep_samples": keep_samples,
            "dtype": settings.dtype,
            "plan": asdict(plan) | {"key": list(plan.key)},
        }
        kind = "-function" if plan.masks == "function" else ""
        path = self.folder / f"{dataset.name}-{role}-{view.name}x{plan.passes}{kind}.safetensors"
        sampler = self.samplers[REFERENCE.index(role) if role in REFERENCE else 0]
        work = Work(request, plan, len(dataset), view, settings.batch_size, sampler)
        tensors, metadata = self._read(path, request) or self._make(path, work)
        self.seconds += metadata["seconds"]
        return tensors

    def reference(self, dataset: Dataset) -> tuple[list[Samples], ndarray]:
        """Both halves of the reference on `dataset`, and the mask group of each image."""
        config = self.config
        view = make_views(["plain"], dataset.images.to(self.compute.device), config.data.augmentation, config.seed)[0]
        halves = [self.get(dataset, half, view, config.evaluation, True) for half in REFERENCE]
        return [Samples(half["log_probs"].float()) for half in halves], halves[0]["group"].numpy()

    def _make(self, path: Path, work: Work) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Each process samples its share of the groups; the first one puts the shares together."""
        partials = [self._partial(path, rank) for rank in range(process_group.world_size())]
        rows, metadata = self._sample(partials[process_group.rank()], work)
        process_group.barrier()
        if process_group.is_first():
            shares = [rows, *(artifact.load(partial, KIND)[0] for partial in partials[1:])]
            shares = [share for share in shares if len(share["indices"])]
            tensors = {}
            for name in set.intersection(*map(set, shares)) - {"indices"}:
                tensors[name] = torch.empty(work.count, *rows[name].shape[1:], dtype=rows[name].dtype)
                for share in shares:
                    tensors[name][share["indices"]] = share[name]
            kept = {"keep_samples": "log_probs" in tensors}
            metadata |= {"request": work.request | kept, "groups": len(work.plan.groups(work.count))}
            artifact.save(path, KIND, tensors, metadata)
            for partial in path.parent.glob(f"{glob.escape(path.stem)}.partial*"):
                partial.unlink()
            self.run.log(f"{path.name}: {work.count} images x {work.plan.passes} passes in {metadata['seconds']:.0f} s")
        process_group.barrier()
        return (tensors, metadata) if process_group.is_first() else artifact.load(path, KIND)

    @staticmethod
    def _partial(path: Path, rank: int) -> Path:
        """Where a process keeps its unfinished share."""
        return path.with_suffix(f".partial{rank or ''}")

    def _sample(self, partial: Path, work: Work) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """This process's share, group by group: rows in the order of `indices`; what is done is saved every minute."""
        request = work.request | {"share": [process_group.rank(), process_group.world_size()]}
        groups = work.plan.groups(work.count)[process_group.rank() :: process_group.world_size()]
        count = sum(len(indices) for _, indices in groups)
        start = {"indices": torch.cat([indices for _, indices in groups] or [torch.empty(0, dtype=torch.long)])}
        rows, metadata = self._read(partial, request) or (start, {"request": request, "groups": 0, "seconds": 0.0})
        first = metadata["groups"]
        done = sum(len(indices) for _, indices in groups[:first])
        saved = time.monotonic()
        clock = saved - metadata["seconds"]

        def images(chosen: Tensor) -> Tensor:
            with torch.autocast(self.compute.device.type, enabled=False):  # the student's training makes the view without it
                return work.view.images(chosen)

        bar = progress_bar(desc=partial.stem, total=count, initial=done, unit="image", smoothing=0.05)
        with bar, self.compute.autocast():
            for group, indices, log_probs in work.sampler(images, groups[first:], work.plan, work.batch_size):
                parts = statistics(log_probs) | {"group": torch.full((len(indices),), group)}
                if metadata["request"]["keep_samples"]:
                    parts["log_probs"] = log_probs.to(getattr(torch, request["dtype"]))
                for name, part in parts.items():
                    if name not in rows:
                        rows[name] = torch.zeros(count, *part.shape[1:], dtype=part.dtype)
                    rows[name][done : done + len(indices)] = part.cpu()
                done += len(indices)
                metadata |= {"groups": metadata["groups"] + 1, "seconds": time.monotonic() - clock}
                bar.update(len(indices))
                if time.monotonic() - saved > SAVE_EVERY_S:
                    artifact.save(partial, KIND, rows, metadata)
                    saved = time.monotonic()
        if process_group.rank() > 0:
            artifact.save(partial, KIND, rows, metadata)
        return rows, metadata

    def _read(self, path: Path, request: dict) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The file's content if it is whole and answers `request`."""
        missing = self.run.lacks(path) if self.anew else not path.exists()
        if missing:
            return None
        try:
            tensors, metadata = artifact.load(path, KIND)
        except UserError as error:
            self.run.log(f"{error}; making it again")
            return None
        there = metadata["request"]
        differs = difference(there, request | {"keep_samples": there["keep_samples"] or request["keep_samples"]})
        if differs:
            self.run.log(f"{path.name} does not match ({differs}); making it again")
            return None
        self.run.log(f"{path.name}: {metadata['groups']} groups there already")
        return tensors, metadata
