"""The training loop: one for every network and every loss, resumable to the bit on a CPU."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from configs import artifact, ranks
from configs.errors import UserError
from configs.run import Run
from configs.schema import Training
from configs.seeds import seed_of

Batch = Any
Losses = dict[str, Tensor]  # "loss" is minimized, the others are shown beside it


@dataclass
class Progress:
    """How far the training is, and how it went: one row of `history` for each finished epoch."""

    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    best: float | None = None


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    count: int,
    batch: Callable[[Tensor, float], Batch],
    losses: Callable[[nn.Module, Batch], Losses],
    validate: Callable[[nn.Module], dict[str, float]] | None,
    run: Run,
    settings: dict[str, Any],
    averaging: float = 0.0,
) -> Progress:
    """Train `model` in place by `optimizer` and a one-cycle schedule, on `count` inputs.

    batch(indices, epochs done) is made of some of them. losses(model, batch) gives "loss" and what else to show. All randomness is
    torch's, seeded anew for each epoch from the seed that the caller has set. validate(model) gives a "score", higher is better: the
    best epoch's weights are kept; without it, the last's. averaging: the weights kept are an exponential moving average over this share
    of all steps. After each epoch all state goes to `run.checkpoint`, from which an interrupted call goes on. Of several processes each
    has its share of every batch.
    Raises UserError if a loss is not finite; the last finished epoch stays on disk.
    """
    training: Training = getattr(run.config, run.stage)
    seed, steps = torch.initial_seed(), len(shuffled(count, training.batch_size, 0))
    peaks = [group["lr"] for group in optimizer.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peaks, training.epochs * steps, pct_start=training.warmup, cycle_momentum=False
    )
    average = None
    if averaging:
        decay = 1 - 1 / max(1.0, averaging * training.epochs * steps)
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    progress, best = Progress(), {}
    if run.checkpoint.exists():
        progress, best = _restore(model, average, optimizer, schedule, run)
    if training.compile:
        model.compile()
    parallel = ranks.parallel(model)

    started = time.monotonic() - progress.seconds
    first = len(progress.history)
    bar = tqdm(
        total=training.epochs * steps, initial=first * steps, desc=run.stage, unit="step", smoothing=0.05, disable=not ranks.first()
    )
    for epoch in range(first, training.epochs):
        torch.manual_seed(seed_of(seed, epoch, ranks.rank()))
        parts = [ranks.share(indices) for indices in shuffled(count, training.batch_size, seed_of(seed, epoch))]
        batches = (batch(indices, epoch + step / steps) for step, indices in enumerate(parts))
        model.train()
        row = _train_epoch(parallel, average, batches, losses, optimizer, schedule, run, bar)
        row |= {"epoch": epoch + 1, "lr": schedule.get_last_lr()[0]}
        kept = model if average is None else average.module
        ranks.align(kept)
        if validate is not None:
            row |= {f"validation_{name}": value for name, value in validate(kept.eval()).items()}
        progress.history.append(row)
        progress.seconds = time.monotonic() - started
        score = row.get("validation_score")
        if progress.best is None or score > progress.best:
            progress.best = score
            best = {name: value.detach().clone() for name, value in kept.state_dict().items()}
        if ranks.first():
            _save(run.checkpoint, model, average, best, optimizer, schedule, {"settings": settings, **vars(progress)})
        run.scalars(epoch + 1, row)
        run.log("  ".join(f"{name} {value:.4g}" for name, value in row.items()) + f"  ({progress.seconds:.0f} s)")
    bar.close()
    model.load_state_dict(best)
    model.eval()
    return progress


def _train_epoch(model, average, batches, losses, optimizer, schedule, run: Run, bar: tqdm) -> dict[str, float]:
    """One epoch; returns the mean of each loss."""
    sums: dict[str, Tensor] = {}
    for step, batch in enumerate(batches, 1):
        with run.autocast():
            values = losses(model, batch)
        optimizer.zero_grad(set_to_none=True)
        values["loss"].backward()
        optimizer.step()
        schedule.step()
        if average is not None:
            average.update_parameters(model)
        for name, value in values.items():
            sums[name] = sums.get(name, 0) + value.detach()
        bar.update()
        if step % 10 == 0:
            bar.set_postfix({name: f"{value.item() / step:.3f}" for name, value in sums.items()})
            _require_finite(sums["loss"], run)
    _require_finite(sums["loss"], run)
    means = ranks.mean(torch.stack(list(sums.values()))) / step
    return dict(zip(sums, means.tolist()))


def _require_finite(loss: Tensor, run: Run) -> None:
    if not math.isfinite(loss.item()):
        raise UserError(
            f"{run.stage}: the loss is not finite; the last finished epoch is kept. "
            f"Try a lower learning rate (--{run.stage}.lr) with --overwrite"
        )


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: weight decay on matrices and kernels, none on batch norm and biases."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def shuffled(count: int, batch_size: int, seed: int) -> tuple[Tensor, ...]:
    """Random batches of indices below `count`; the rest that does not fill a batch is left out this time.

    Raises UserError for a batch that the processes cannot share evenly.
    """
    size = min(batch_size, count - count % ranks.count())
    if size % ranks.count() or size == 0:
        raise UserError(f"batch_size: {size} images cannot be shared by {ranks.count()} processes evenly")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[: count // size * size].split(size)


def _save(path, model, average, best, optimizer, schedule, metadata: dict[str, Any]) -> None:
    """Model, averaged model, best model, optimizer and schedule in one file."""
    state = optimizer.state_dict()
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    if average is not None:
        tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    for i, buffers in state["state"].items():
        tensors |= {f"optimizer.{i}.{name}": value for name, value in buffers.items()}
    scalars = {"param_groups": state["param_groups"], "schedule": schedule.state_dict()}
    artifact.save(path, tensors, metadata | scalars)


def _restore(model, average, optimizer, schedule, run: Run) -> tuple[Progress, dict[str, Tensor]]:
    """Load what `_save` wrote."""
    tensors, metadata = artifact.load(run.checkpoint)

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    model.load_state_dict(part("model."))
    if average is not None:
        average.load_state_dict(part("average."))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in part("optimizer.").items():
        i, name = key.split(".")
        if value.ndim:  # fused optimizers go through memory, where a state has to lie as its parameter does
            value = torch.empty_like(parameters[int(i)]).copy_(value)
        state.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": metadata["param_groups"]})
    schedule.load_state_dict(metadata["schedule"])
    progress = Progress(metadata["history"], metadata["seconds"], metadata["best"])
    run.log(f"continues after epoch {len(progress.history)}")
    return progress, {name: value.to(run.device) for name, value in part("best.").items()}
