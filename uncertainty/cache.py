"""The cache of a teacher's samples: made once, used by every student, never used for a request that does not match.

`mc_samples/<data set>-<role>-<view>x<passes>.safetensors` (`...-function` with `masks: function`) holds, for each
input, the statistics of `uncertainty.samples.statistics`, its mask group and, if asked for, all samples `log_probs` [N,
T, C].
"""

import glob
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
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
from training.loading import ahead
from training.run import Run, difference
from uncertainty.mc_dropout import Group, Plan
from uncertainty.samples import Samples, statistics

VERSION = 3  # of the file's layout and of how masks are drawn: a change of either makes old files unusable
SAVE_EVERY_S = 60.0
SHARD = 8192  # the largest number of images that wait to be written
KIND = "cache of samples"
REFERENCE = ("reference-a", "reference-b")  # the roles of the reference's halves

Sampling = Callable[..., Iterator[tuple[int, Tensor, Tensor]]]
"""(indices → images, groups, plan, batch size) → samples, group by group."""


@dataclass(frozen=True)
class Work:
    """What is to be sampled: `count` images of a view. request: all that determines the samples."""

    request: dict[str, Any]
    plan: Plan
    count: int
    view: View
    batch_size: int
    sampler: Sampling


class SampleCache:
    """The samples of one teacher, made when they are first requested.

    samplers: (images, groups, plan, batch size) → samples group by group, as a `mc_dropout.Sampler`. The second one is
    for the reference's second half, from which no student learns. checksum: of the teacher's weights. seconds: the time
    that sampling all requests has taken, in this process or an earlier one. anew: with --overwrite, make all samples
    again.
    """

    def __init__(
        self,
        config: Config,
        run: Run,
        compute: Compute,
        samplers: tuple[Sampling, Sampling],
        checksum: str,
        anew: bool = False,
    ):
        self.config = config
        self.folder = config.source / "mc_samples"
        self.run = run
        self.compute = compute
        self.samplers = samplers
        self.checksum = checksum
        self.anew = anew
        self.seconds = 0.0

    def get(
        self, dataset: Dataset, role: str, view: View, settings: McDropout, keep_samples: bool
    ) -> dict[str, Tensor]:
        """Statistics, mask groups (and samples, if kept) of the teacher on a view of `dataset`, in its order.

        role: what they are for; two roles never share a mask. A file that was made for another request, or is damaged,
        is made again, and the log says why. A partial file is continued.
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
        found = self._read(path, request)
        if found:
            self.run.log(f"{path.name}: {found[1]['groups']} groups there already")
        tensors, metadata = found or self._make(path, work)
        self.seconds += metadata["seconds"]
        return tensors

    def reference(self, dataset: Dataset, settings: McDropout | None = None) -> tuple[list[Samples], ndarray]:
        """Both halves of the reference on `dataset`, and the mask group of each image. settings: default `evaluation`
        of the config."""
        config = self.config
        (view,) = make_views(["plain"], dataset, config.data.augmentation, config.seed, self.compute.device)
        halves = [self.get(dataset, half, view, settings or config.evaluation, True) for half in REFERENCE]
        return [Samples(half["log_probs"].float()) for half in halves], halves[0]["group"].numpy()

    def _make(self, path: Path, work: Work) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Sample what is missing, in shards. The first process merges the shards, one by one, in the data set's
        order."""
        shards = self._shards(path, work)
        process_group.barrier()
        done = {group for shard in shards.values() for group in shard["groups"]}
        if done:
            self.run.log(f"{path.name}: {len(done)} groups there already")
        keep = work.request["keep_samples"] or any(shard["request"]["keep_samples"] for shard in shards.values())
        work = replace(work, request=work.request | {"keep_samples": keep})
        missing = [group for group in work.plan.groups(work.count) if group[0] not in done]
        self._sample(
            path,
            work,
            missing[process_group.rank() :: process_group.world_size()],
            work.count - sum(len(g[1]) for g in missing),
        )
        process_group.barrier()
        if process_group.is_first():
            shards = self._shards(path, work)
            kept = {"keep_samples": all(shard["request"]["keep_samples"] for shard in shards.values())}
            groups = sum(len(shard["groups"]) for shard in shards.values())
            seconds = sum(shard["seconds"] for shard in shards.values()) / process_group.world_size()
            rows, _ = artifact.load(next(iter(shards)), KIND)
            names = rows.keys() - {"indices"} - (set() if kept["keep_samples"] else {"log_probs"})
            layout = {name: (rows[name].dtype, (work.count, *rows[name].shape[1:])) for name in sorted(names)}
            metadata = {"request": work.request | kept, "groups": groups, "seconds": seconds}
            with artifact.filled(path, KIND, layout, metadata) as tensors:
                for shard in shards:
                    rows, _ = artifact.load(shard, KIND)
                    for name, tensor in tensors.items():
                        tensor[rows["indices"]] = rows[name]
            for shard in shards:
                shard.unlink()
            self.run.log(f"{path.name}: {work.count} images x {work.plan.passes} passes in {seconds:.0f} s")
        process_group.barrier()
        return artifact.load(path, KIND)

    def _shards(self, path: Path, work: Work) -> dict[Path, dict[str, Any]]:
        """The shards of an unfinished file that match the request, with their metadata. No group is in two of them."""
        found, done = {}, set()
        for shard in sorted(path.parent.glob(f"{glob.escape(path.stem)}.partial*")):
            read = self._read(shard, work.request)
            if read and not done & set(read[1]["groups"]):
                found[shard] = read[1]
                done |= set(read[1]["groups"])
            elif process_group.is_first():
                shard.unlink(missing_ok=True)
        return found

    def _sample(self, path: Path, work: Work, groups: list[Group], done: int) -> None:
        """Sample groups. Finished groups go to a shard every minute, or when there are many images. done: images
        sampled earlier."""

        def images(chosen: Tensor) -> Tensor:
            return work.view.images(chosen, next(pixels))

        pixels = ahead(work.view.pixels, [indices for _, indices in groups], work.view.dataset.workers)
        saved = time.monotonic()
        count = sum(len(indices) for _, indices in groups)
        shard: list[dict[str, Tensor]] = []
        bar = progress_bar(desc=path.stem, total=count + done, initial=done, unit="image", smoothing=0.05)
        with bar, self.compute.autocast():
            for group, indices, log_probs in work.sampler(images, groups, work.plan, work.batch_size):
                rows = statistics(log_probs) | {"group": torch.full((len(indices),), group), "indices": indices}
                if work.request["keep_samples"]:
                    rows["log_probs"] = log_probs.to(getattr(torch, work.request["dtype"]))
                shard.append({name: row.cpu() for name, row in rows.items()})
                bar.update(len(indices))
                now, last = time.monotonic(), group == groups[-1][0]
                if last or now - saved > SAVE_EVERY_S or len(shard) * work.plan.group_size >= SHARD:
                    self._save(path, work, shard, now - saved)
                    shard, saved = [], now

    def _save(self, path: Path, work: Work, shard: list[dict[str, Tensor]], seconds: float) -> None:
        numbers = [int(rows["group"][0]) for rows in shard]
        with torch.autocast(self.compute.device.type, enabled=False):  # autocast cannot concatenate integers
            tensors = {name: torch.cat([rows[name] for rows in shard]) for name in shard[0]}
        metadata = {"request": work.request, "groups": numbers, "seconds": seconds}
        artifact.save(path.with_suffix(f".partial{numbers[0]}"), KIND, tensors, metadata)

    def _read(self, path: Path, request: dict) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The file's content if it is undamaged and matches `request`, else None."""
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
        return tensors, metadata
