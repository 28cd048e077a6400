"""The state of a training: what a loop asks for by name. On a CPU an interrupted training resumes bit for bit."""

import math
import time
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from configs.errors import UserError
from configs.schema import Training
from training import artifact, process_group
from training.bar import progress_bar
from training.run import Run
from training.seeds import permutation, seed_of


class State:
    """A model in training on `count` images, with its optimizer, a one-cycle schedule and, with `averaging`, the moving
    average of its weights over this share of all steps.

    The learning rates of the optimizer are the schedule's peaks. All randomness comes from torch; each epoch is seeded
    from the seed that the caller has set.
    history: a row for each finished epoch. seconds: of all of them. parallel: the model to be called in a step.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, settings: Training, count: int, averaging: float = 0.0
    ):
        self.model, self.optimizer, self.settings, self.count = model, optimizer, settings, count
        self.parallel = process_group.parallel(model)
        self.seed = torch.initial_seed()
        self.steps = len(shuffled(count, settings.batch_size, 0))
        steps = settings.epochs * self.steps
        peaks = [group["lr"] for group in optimizer.param_groups]
        # The schedule cannot rise in less than two steps.
        warmup = max(settings.warmup, 2 / steps) if steps > 2 else 0.9
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, peaks, steps, pct_start=warmup, cycle_momentum=False
        )
        self.average = None
        if averaging:
            decay = 1 - 1 / max(1.0, averaging * steps)
            self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0
        self.best: dict[str, Tensor] = {}

    def epochs(self, run: Run, settings: dict) -> Iterator[int]:
        """Each epoch that is left. After it the state is saved in `run.checkpoint`, with `settings`, which determine
        the weights. At the end the model has the kept weights: of the best validated epoch, or else of the last one."""
        if run.checkpoint.exists():
            self.restore(run)
        started, done = time.monotonic() - self.seconds, len(self.history) * self.steps
        total = self.settings.epochs * self.steps
        self.stage = run.stage
        with progress_bar(desc=run.stage, total=total, initial=done, unit="step", smoothing=0.05) as self.bar:
            for epoch in range(len(self.history), self.settings.epochs):
                torch.manual_seed(seed_of(self.seed, epoch, process_group.rank()))
                self.model.train()
                self.sums: dict[str, Tensor] = {}
                self.step_of_epoch, self.validation = 0, None
                yield epoch
                self.require_finite()
                means = process_group.mean(torch.stack(list(self.sums.values()))) / self.step_of_epoch
                row = dict(zip(self.sums, means.tolist(), strict=True))
                row |= {"epoch": epoch + 1, "lr": self.lr}
                row |= {f"validation_{name}": value for name, value in (self.validation or {}).items()}
                self.history.append(row)
                self.seconds = time.monotonic() - started
                if self.validation is None or is_best(self.history):
                    self.best = {name: value.detach().clone() for name, value in self.kept().state_dict().items()}
                if process_group.is_first():
                    self.save(run, settings)
                run.log("  ".join(f"{name} {value:.4g}" for name, value in row.items()) + f"  ({self.seconds:.0f} s)")
        self.model.load_state_dict(self.best)
        self.model.eval()

    def batches(self, epoch: int) -> list[Tensor]:
        """This process's part of each random batch of the epoch, as indices."""
        return [
            process_group.shard(indices)
            for indices in shuffled(self.count, self.settings.batch_size, seed_of(self.seed, epoch))
        ]

    def step(self, loss: Tensor, **shown: Tensor) -> None:
        """One step of the optimizer, the schedule and the average. shown: other values that the log has beside the
        loss.

        Raises UserError if the loss is not finite (every tenth step is checked); the last finished epoch stays on disk.
        """
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.lr = self.schedule.get_last_lr()[0]
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        for name, value in ({"loss": loss} | shown).items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        self.step_of_epoch += 1
        self.bar.update()
        if self.step_of_epoch % 10 == 0:
            means = {name: f"{value.item() / self.step_of_epoch:.3f}" for name, value in self.sums.items()}
            self.bar.set_postfix(means, refresh=False)
            self.require_finite()

    def require_finite(self) -> None:
        """Raise UserError if a loss of this epoch was not finite."""
        if not math.isfinite(self.sums["loss"].item()):
            raise UserError(
                f"{self.stage}: the loss is not finite; the last finished epoch is kept. "
                f"Try a lower learning rate (--{self.stage}.lr) with --overwrite"
            )

    def kept(self) -> nn.Module:
        """The model whose weights are kept, in eval mode: the average, if there is one. Its buffers are those of rank
        0."""
        model = self.model if self.average is None else self.average.module
        process_group.broadcast_buffers(model)
        return model.eval()

    def validated(self, **scores: float) -> None:
        """Note the epoch's validation: `score`, higher is better, `loss`, and others to be logged."""
        self.validation = scores

    def save(self, run: Run, settings: dict) -> None:
        """Write the state to `run.checkpoint`."""
        optimizer = self.optimizer.state_dict()
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for i, buffers in optimizer["state"].items():
            tensors |= {f"optimizer.{i}.{name}": value for name, value in buffers.items()}
        metadata = {"settings": settings, "history": self.history, "seconds": self.seconds}
        metadata |= {"param_groups": optimizer["param_groups"], "schedule": self.schedule.state_dict()}
        artifact.save(run.checkpoint, "checkpoint", tensors, metadata)

    def restore(self, run: Run) -> None:
        """Read what `save` wrote."""
        tensors, metadata = artifact.load(run.checkpoint, "checkpoint")

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        self.model.load_state_dict(part("model."))
        if self.average is not None:
            self.average.load_state_dict(part("average."))
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        state = {}
        for key, value in part("optimizer.").items():
            i, name = key.split(".")
            if value.ndim:  # fused optimizers need each state in its parameter's memory layout
                value = torch.empty_like(parameters[int(i)]).copy_(value)
            state.setdefault(int(i), {})[name] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": metadata["param_groups"]})
        self.schedule.load_state_dict(metadata["schedule"])
        self.best = part("best.")
        self.history, self.seconds = metadata["history"], metadata["seconds"]
        run.log(f"continues after epoch {len(self.history)}")


def is_best(history: list[dict[str, float]]) -> bool:
    """Whether the last epoch has the highest score or, among equal scores, the lowest loss."""
    *earlier, last = [(row["validation_score"], -row["validation_loss"]) for row in history]
    return all(last > other for other in earlier)


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict]:
    """Parameter groups for an optimizer: weight decay on matrices and kernels, none on batch norm and biases."""
    parameters = list(parameters)
    decayed = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def shuffled(count: int, batch_size: int, seed: int) -> tuple[Tensor, ...]:
    """Random batches of indices below `count`; the rest that does not fill a batch is left out.

    Raises UserError for a batch that cannot be divided evenly among the processes.
    """
    processes = process_group.world_size()
    size = min(batch_size, count - count % processes)
    if size % processes or size == 0:
        raise UserError(f"batch_size: {size} images cannot be divided evenly among {processes} processes")
    return permutation(count, seed)[: count // size * size].split(size)
