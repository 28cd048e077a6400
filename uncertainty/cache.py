"""The cache of a teacher's samples: made once, used by every student, never used for a request that does not match.

A file `<data set>-<role>-<view>x<passes>.safetensors` (`...-function` with `masks: function`, `...-stratified`) holds,
for each input, the statistics of `uncertainty.samples.statistics`, its mask group and a sample of each pass,
`log_probs` [N, T, C]. Views of training images are in `mc_samples/` of the teacher's run, references in `reference/`.
"""

import glob
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from numpy import ndarray
from torch import Tensor

from configs.errors import UserError
from configs.schema import McDropout, Sampling
from data.dataset import Dataset
from data.loading import loader
from data.views import View, make_views
from training import artifact, process_group
from training.bar import progress_bar
from training.compute import Compute
from training.run import Run, difference
from uncertainty.mc_dropout import Plan, Sampled
from uncertainty.samples import Samples, statistics

VERSION = 5  # of the file's layout and of how masks are drawn: a change of either makes old files unusable
SAVE_EVERY_S = 120.0
GROUPS = 20  # of a reference, which are resampled for intervals
UNBIASED = 2  # blocks of stratified passes
KIND = "cache of samples"
REFERENCE = ("reference-a", "reference-b")  # the roles of the reference's halves

GroupSampler = Callable[..., Sampled]
"""(indices → images, groups, plan) → (group, indices, samples), group by group."""
Samplers = tuple[GroupSampler, GroupSampler]
"""One for students and the first half of a reference, one for its second half."""


@dataclass
class SampleCache:
    """The samples of one teacher, made when they are first requested.

    folder: of the teacher's run. samplers: (images, groups, plan) → samples group by group, as a `mc_dropout.Sampler`.
    The second one is for the reference's second half, from which no student learns. checksum: of the teacher's weights.
    seed: of the run. seconds: the time that sampling all requests has taken, in this process or an earlier one.
    """

    folder: Path
    run: Run
    compute: Compute
    samplers: Samplers
    checksum: str
    seed: int
    seconds: float = 0.0

    def get(self, role: str, view: View, settings: McDropout) -> dict[str, Tensor]:
        """Statistics, mask groups and samples of the teacher on a view of a data set, in its order.

        role: what they are for; two roles never share a mask. A file that was made for another request, or is damaged,
        is made again, and the log says why. A partial file is continued.
        """
        dataset = view.dataset
        plan = plan_of(settings, (self.seed, role, dataset.name, view.name))
        request = {
            "version": VERSION,
            "teacher": self.checksum,
            "data": dataset.fingerprint,
            "view": view.spec,
            "compute": [self.compute.device.type, self.compute.dtype],
            "plan": asdict(plan) | {"key": list(plan.key)},
        }
        kind = "-function" if plan.masks == "function" else "-stratified" if plan.blocks else ""
        folder = "reference" if role in REFERENCE else "mc_samples"
        path = self.folder / folder / f"{dataset.name}-{role}-{view.name}x{plan.passes}{kind}.safetensors"
        found = self._read(path, request)
        if found is None:
            sampler = self.samplers[REFERENCE.index(role) if role in REFERENCE else 0]
            self._make(path, request, plan, view, sampler)
            found = artifact.load(path, KIND)
        else:
            self.run.log(f"{path.name}: {found[1]['groups']} groups there already")
        tensors, metadata = found
        self.seconds += metadata["seconds"]
        return tensors

    def reference(self, dataset: Dataset, settings: McDropout) -> tuple[list[Samples], ndarray]:
        """Both halves of the reference on `dataset`, and the mask group of each image; few images have smaller groups,
        as an interval needs some."""
        (view,) = make_views(["plain"], dataset, None, self.seed, self.compute.device)
        settings = replace(settings, group_size=min(settings.group_size, max(1, len(dataset) // GROUPS)))
        halves = [self.get(half, view, settings) for half in REFERENCE]
        return [Samples(half["log_probs"].float()) for half in halves], halves[0]["group"].numpy()

    def _make(self, path: Path, request: dict, plan: Plan, view: View, sampler: GroupSampler) -> None:
        """Sample all groups, each process its share, which it saves now and then. The first process joins the
        shares."""
        rank, processes = process_group.rank(), process_group.world_size()
        shares = [path.with_suffix(f".partial{number}of{processes}") for number in range(processes)]
        groups = plan.groups(len(view.dataset))[rank::processes]
        rows, about = self._read(shares[rank], request) or ({}, {"request": request, "groups": 0, "seconds": 0.0})
        parts, missing = [rows] if rows else [], groups[about["groups"] :]
        dtype = torch.float32 if plan.key[1] in REFERENCE else torch.float16  # half the space where it does no harm
        pixels = loader(view.pixels, [indices for _, indices in missing], view.dataset.lazy)
        if rows:
            self.run.log(f"{path.name}: {about['groups']} groups there already")
        started = saved = time.monotonic()
        started -= about["seconds"]
        done, total = len(rows.get("indices", ())), sum(len(indices) for _, indices in groups)
        bar = progress_bar(desc=path.stem, total=total, initial=done, unit="image", smoothing=0.05)
        with bar, self.compute.autocast():
            samples = sampler(lambda indices: view.images(indices, next(pixels)), missing, plan)
            for count, (group, indices, drawn) in enumerate(samples, about["groups"] + 1):
                part = statistics(drawn) | {"group": torch.full((len(indices),), group), "indices": indices}
                part["log_probs"] = drawn.log_probs[:, :: drawn.draws // plan.passes].to(dtype)  # one for each pass
                parts.append({name: row.cpu() for name, row in part.items()})
                bar.update(len(indices))
                about = {"request": request, "groups": count, "seconds": time.monotonic() - started}
                if processes > 1 and count == len(groups) or time.monotonic() - saved > SAVE_EVERY_S:
                    parts = [joined(parts)]
                    artifact.save(shares[rank], KIND, parts[0], about)
                    saved = time.monotonic()
        process_group.barrier()
        if process_group.is_first():
            others = [of for share in shares[1:] if (of := self._read(share, request))]  # of no groups: none
            rows = joined([*parts, *(rows for rows, _ in others)])
            order = rows.pop("indices").argsort()
            for name in ("groups", "seconds"):
                about[name] += sum(of_other[name] for _, of_other in others)
            about["seconds"] /= 1 + len(others)
            artifact.save(path, KIND, {name: row[order] for name, row in rows.items()}, about)
            for partial in path.parent.glob(f"{glob.escape(path.stem)}.partial*"):
                partial.unlink(missing_ok=True)
            self.run.log(f"{path.name}: {len(order)} images x {plan.passes} passes in {about['seconds']:.0f} s")
        process_group.barrier()

    def _read(self, path: Path, request: dict) -> tuple[dict[str, Tensor], dict] | None:
        """The file's content if it is there, undamaged and matches `request`, else None."""
        if not path.exists():
            return None
        try:
            tensors, metadata = artifact.load(path, KIND)
        except UserError as error:
            self.run.log(f"{error}; making it again")
            return None
        if differs := difference(metadata["request"], request):
            self.run.log(f"{path.name} does not match ({differs}); making it again")
            return None
        return tensors, metadata


def plan_of(settings: McDropout, key: tuple) -> Plan:
    """How the settings sample; a student's targets, which alone can be stratified, are unbiased."""
    blocks = UNBIASED if isinstance(settings, Sampling) and settings.stratified else 0
    return Plan(settings.passes, settings.masks, settings.group_size, key, blocks)


def joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Rows of several parts in one."""
    with torch.autocast("cpu", enabled=False):  # autocast cannot concatenate integers
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
