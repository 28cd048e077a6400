"""The training loop, for every network and every loss. On a CPU an interrupted training resumes bit for bit."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from configs.schema import Training
from training import artifact, process_group
from training.bar import progress_bar
from training.compute import Compute
from training.errors import UserError
from training.loading import ahead
from training.run import Run
from training.seeds import seed_of

Batch = Any
Losses = dict[str, Tensor]  # "loss" is minimized, the others are shown beside it


@dataclass
class Progress:
    """The progress of a training. history: one row for each finished epoch."""

    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    best: float | None = None


@dataclass
class State:
    """Everything that a training step changes; it is saved in the checkpoint."""

    model: nn.Module
    average: AveragedModel | None
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    @property
    def kept(self) -> nn.Module:
        """The model whose weights are kept at the end."""
        return self.model if self.average is None else self.average.module

    def step(self, loss: Tensor) -> None:
        """One step of the optimizer, the schedule and the average."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def save(self, path: Path, best: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        """Write this state and the best epoch's weights to one file."""
        optimizer = self.optimizer.state_dict()
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in best.items()}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for i, buffers in optimizer["state"].items():
            tensors |= {f"optimizer.{i}.{name}": value for name, value in buffers.items()}
        scalars = {"param_groups": optimizer["param_groups"], "schedule": self.schedule.state_dict()}
        artifact.save(path, "checkpoint", tensors, metadata | scalars)

    def restore(self, run: Run) -> tuple[Progress, dict[str, Tensor]]:
        """Read what `save` wrote; returns the progress and the best weights."""
        tensors, metadata = artifact.load(run.checkpoint, "checkpoint")

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        self.model.load_state_dict(part("model."))
        if self.average is not None:
            self.average.load_state_dict(part("average."))
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in part("optimizer.").items():
            i, name = key.split(".")
            if value.ndim:  # fused optimizers need each state in its parameter's memory layout
                value = torch.empty_like(parameters[int(i)]).copy_(value)
            state.setdefault(int(i), {})[name] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": metadata["param_groups"]})
        self.schedule.load_state_dict(metadata["schedule"])
        progress = Progress(metadata["history"], metadata["seconds"], metadata["best"])
        run.log(f"continues after epoch {len(progress.history)}")
        return progress, part("best.")


@dataclass
class Task:
    """A training task on `count` inputs.

    optimizer: its learning rates are the schedule's peaks. batch(indices, epochs done): makes a batch on the CPU,
    without randomness. losses(model, batch): "loss", which is minimized, and other values to show. schedule: epochs,
    batch size, warm-up. validate(model): a "score", higher is better, and a "loss"; the best epoch's weights are kept,
    or without `validate` those of the last epoch. averaging: the weights that are kept are an exponential moving
    average over this share of all steps. workers: whether worker processes make the batches.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    count: int
    batch: Callable[[Tensor, float], Batch]
    losses: Callable[[nn.Module, Batch], Losses]
    schedule: Training
    validate: Callable[[nn.Module], dict[str, float]] | None = None
    averaging: float = 0.0
    workers: bool = False


def fit(task: Task, run: Run, compute: Compute, settings: dict[str, Any]) -> Progress:
    """Train the task's model in place, by its optimizer and a one-cycle schedule.

    All randomness comes from torch; each epoch is seeded from the seed that the caller has set. After each epoch the
    state is saved in `run.checkpoint`, with `settings`, which determine the weights. An interrupted training continues
    from there. Each process trains on its shard of every batch. Raises UserError if a loss is not finite; the last
    finished epoch stays on disk.
    """
    epochs, batch_size = task.schedule.epochs, task.schedule.batch_size or fitting_batch(task.count)
    seed, steps = torch.initial_seed(), len(shuffled(task.count, batch_size, 0))
    state = _start(task, epochs * steps)
    progress, best = state.restore(run) if run.checkpoint.exists() else (Progress(), {})
    best = {name: value.to(compute.device) for name, value in best.items()}
    if task.schedule.compile:
        task.model.compile()
    parallel = process_group.parallel(task.model)

    started = time.monotonic() - progress.seconds
    first = len(progress.history)
    bar = progress_bar(desc=run.stage, total=epochs * steps, initial=first * steps, unit="step", smoothing=0.05)
    with bar:
        for epoch in range(first, epochs):
            torch.manual_seed(seed_of(seed, epoch, process_group.rank()))
            parts = [process_group.shard(indices) for indices in shuffled(task.count, batch_size, seed_of(seed, epoch))]
            places = [(indices, epoch + step / steps) for step, indices in enumerate(parts)]
            batches = ahead(lambda place: task.batch(*place), places, task.workers)
            task.model.train()
            try:
                row = _train_epoch(parallel, state, batches, task.losses, compute, bar)
            except FloatingPointError:
                raise UserError(
                    f"{run.stage}: the loss is not finite; the last finished epoch is kept. "
                    f"Try a lower learning rate (--{run.stage}.lr) with --overwrite"
                ) from None
            row |= {"epoch": epoch + 1, "lr": state.schedule.get_last_lr()[0]}
            process_group.broadcast_buffers(state.kept)
            if task.validate is not None:
                row |= {f"validation_{name}": value for name, value in task.validate(state.kept.eval()).items()}
            progress.history.append(row)
            progress.seconds = time.monotonic() - started
            if task.validate is None or is_best(progress.history):
                progress.best = row.get("validation_score")
                best = {name: value.detach().clone() for name, value in state.kept.state_dict().items()}
            if process_group.is_first():
                state.save(run.checkpoint, best, {"settings": settings, **vars(progress)})
            run.log("  ".join(f"{name} {value:.4g}" for name, value in row.items()) + f"  ({progress.seconds:.0f} s)")
    task.model.load_state_dict(best)
    task.model.eval()
    return progress


def _start(task: Task, steps: int) -> State:
    """The state before the first step."""
    peaks = [group["lr"] for group in task.optimizer.param_groups]
    warmup = (
        max(task.schedule.warmup, 2 / steps) if steps > 2 else 0.9
    )  # the schedule cannot rise in less than two steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(task.optimizer, peaks, steps, pct_start=warmup, cycle_momentum=False)
    average = None
    if task.averaging:
        decay = 1 - 1 / max(1.0, task.averaging * steps)
        average = AveragedModel(task.model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    return State(task.model, average, task.optimizer, schedule)


def _train_epoch(
    model: nn.Module, state: State, batches: Iterator[Batch], losses, compute: Compute, bar: tqdm
) -> dict[str, float]:
    """One epoch; returns the mean of each loss."""
    sums: dict[str, Tensor] = {}
    for step, batch in enumerate(batches, 1):
        with compute.autocast():
            values = losses(model, batch)
        state.step(values["loss"])
        for name, value in values.items():
            sums[name] = sums.get(name, 0) + value.detach()
        bar.update()
        if step % 10 == 0:
            bar.set_postfix({name: f"{value.item() / step:.3f}" for name, value in sums.items()}, refresh=False)
            _require_finite(sums["loss"])
    _require_finite(sums["loss"])
    means = process_group.mean(torch.stack(list(sums.values()))) / step
    return dict(zip(sums, means.tolist()))


def _require_finite(loss: Tensor) -> None:
    if not math.isfinite(loss.item()):
        raise FloatingPointError


def is_best(history: list[dict[str, float]]) -> bool:
    """Whether the last epoch has the highest score or, among equal scores, the lowest loss."""
    *earlier, last = [(row["validation_score"], -row["validation_loss"]) for row in history]
    return all(last > other for other in earlier)


def fitting_batch(count: int) -> int:
    """The default batch size for `count` images: a power of two from 32 to 256, with about twenty steps per epoch if
    possible."""
    return 2 ** max(5, min(8, int(math.log2(max(1, count / 20)))))


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: weight decay on matrices and kernels, none on batch norm and biases."""
    parameters = list(parameters)
    decayed = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def shuffled(count: int, batch_size: int, seed: int) -> tuple[Tensor, ...]:
    """Random batches of indices below `count`; the rest that does not fill a batch is left out.

    Raises UserError for a batch that cannot be divided evenly among the processes.
    """
    size = min(batch_size, count - count % process_group.world_size())
    if size % process_group.world_size() or size == 0:
        raise UserError(
            f"batch_size: {size} images cannot be divided evenly among {process_group.world_size()} processes"
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[: count // size * size].split(size)
