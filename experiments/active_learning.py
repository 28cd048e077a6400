"""Which images should be labelled next (Gal et al. 2017; Mukhoti et al. 2021)? By chance, by softmax entropy, by the
teacher's mutual information (BALD), by its student's, or by the density of features.

    python -m experiments.active_learning          # some two hours on one CPU core

The pool has few clean and many ambiguous digits (`ambiguous_digits`, of MNIST from datasets/), so an acquisition that
takes uncertain images of any kind wastes labels. Every network is a LeNet with dropout, trained anew on the labels so
far. The student is distilled on images of the pool, without labels, at each step, or kept for a few steps. Few passes
of the teacher cost as little as a student: is it better than they? Writes results/active_learning/. The same command
continues: what is finished is kept in runs/active_learning/.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor

from configs.schema import Count, dataclass
from data.dataset import Dataset
from experiments import ambiguous_digits, common
from experiments.acquisitions import ACQUISITIONS, AGAIN, COMPUTE, DISTILLED, FEW_PASSES, PASSES, State
from models.inference import outputs_of
from training.bar import progress_bar
from training.seeds import permutation, seed_of

CLEAN = 1000  # images of the pool, beside all ambiguous ones
FIRST, STEP = 20, 10  # labels to begin with, as many of each class, and labels of a step
SHOWN = (50, 100, 200)  # labels


@dataclass
class Settings:
    """What can be set on the command line."""

    last: Annotated[int, Field(ge=FIRST)] = 200
    """Labels at the end."""
    epochs: Count = 200
    """Of each network."""
    seeds: Count = 3
    """Repetitions."""


def make_pool(train: Dataset, ambiguous: Tensor, labels: Tensor, seed: int) -> tuple[Dataset, Tensor]:
    """Clean and ambiguous digits together, an ambiguous one with the first of its labels; and which ones are clean."""
    clean = permutation(len(train), seed)[:CLEAN]
    images = torch.cat([train.images[clean], ambiguous])
    pool = Dataset("pool", images, torch.cat([train.labels[clean], labels[:, 0]]), [""] * len(images), train.classes)
    return pool, torch.arange(len(images)) < len(clean)


def learn(
    acquire: Callable[[State], Tensor], pool: Dataset, clean: Tensor, test: Dataset, seed: int, settings: Settings
) -> dict:
    """After each step: labels, accuracy on the test images, the share of ambiguous images among the acquired ones, and
    the seconds of the choice."""
    torch.manual_seed(seed)
    candidates = [(clean & (pool.labels == c)).nonzero().flatten() for c in range(10)]
    labelled = torch.cat([rows[torch.randperm(len(rows))[: FIRST // 10]] for rows in candidates])
    curve, student = [], None
    for step in progress_bar(range((settings.last - FIRST) // STEP + 1), desc=f"seed {seed}", unit="step"):
        torch.manual_seed(seed_of(seed, "active learning", step))  # the same start for every acquisition
        network = ambiguous_digits.lenet(0.3)
        x = pool.images[labelled].float().permute(0, 3, 1, 2) / 255
        ambiguous_digits.train_classifier(network, x, pool.labels[labelled], settings.epochs)
        state = State(network, pool, labelled, step, seed, student)
        predicted = outputs_of(state.teacher.network, test, COMPUTE).argmax(1)
        accuracy = (predicted == test.labels).double().mean().item()
        ambiguous = (~clean[labelled[FIRST:]]).double().mean().item() if step else 0.0
        started = time.monotonic()
        scores = acquire(state).double()
        curve.append((len(labelled), accuracy, ambiguous, time.monotonic() - started))
        student = state.student
        scores[labelled] = -torch.inf
        labelled = torch.cat([labelled, scores.topk(STEP).indices])
    return dict(zip(("labels", "accuracy", "ambiguous", "seconds"), map(list, zip(*curve)), strict=True))


@np.errstate(all="ignore")  # a single step shares nothing
def pays_from(seconds: dict[str, float], images: int, steps: int) -> list[float]:
    """The sizes of the pool above which a student of every step costs less than the teacher's passes, many and few:
    a distillation costs the same for any pool, passes grow with it. seconds: of a step, on average over so many, of a
    pool of so many images."""
    every_step, share = seconds["student of every step"], math.ceil(steps / AGAIN) / steps
    one_pass = np.divide(seconds["student"] - share * every_step, 1 - share)
    passes = seconds["teacher (BALD)"], seconds["teacher, few passes"]
    return [images * (every_step - one_pass) / (value - one_pass) for value in passes]


def main(settings: Settings) -> None:
    """Run every acquisition with every seed, and write the page."""
    train, test, arrays = ambiguous_digits.load_digits()
    ambiguous, labels = (torch.from_numpy(arrays[f"train_ambiguous{name}"]) for name in ("", "_labels"))
    record, curves = common.provenance(settings, "cpu", "float32"), {name: {} for name in ACQUISITIONS}
    for seed in range(settings.seeds):
        pool, clean = make_pool(train, ambiguous, labels, seed)
        for name, (acquire, _) in ACQUISITIONS.items():
            file = Path(f"runs/active_learning/{name}-{seed}.json")
            measure = partial(learn, acquire, pool, clean, test, seed, settings)
            curves[name][str(seed)] = common.kept(file, settings, measure)
    seconds = {name: np.mean([curve["seconds"] for curve in of.values()]) for name, of in curves.items()}
    record |= {"curves": curves, "seconds": seconds}
    common.write("active_learning", record, tables, accuracy_by_labels=figure_of(curves))


def figure_of(curves: dict[str, dict]) -> Figure:
    """Accuracy, and the share of ambiguous images, against the labels: means, and thin lines for the seeds."""
    panels = {"accuracy": [], "ambiguous": []}
    for (quantity, lines), (name, (_, colour)) in product(panels.items(), ACQUISITIONS.items()):
        labels, values = curves[name]["0"]["labels"], [curve[quantity] for curve in curves[name].values()]
        lines += [(labels, row, None, {"color": colour, "lw": 0.3}) for row in values]
        lines.append((labels, np.mean(values, 0), name, {"color": colour}))
    return common.plot_lines("Active learning on clean and ambiguous digits (means and all seeds)", "labels", panels)


def tables(record: dict) -> common.Tables:
    """A line for each acquisition."""
    seconds, rows = record["seconds"], {}
    for name, curves in record["curves"].items():
        accuracies, rows[name] = np.transpose([curve["accuracy"] for curve in curves.values()]), {}
        for labels, values in zip(curves["0"]["labels"], accuracies, strict=True):
            if labels in SHOWN:
                text = f"{values.mean():.3f} ({values.min():.3f}-{values.max():.3f})"
                rows[name][f"accuracy, {labels} labels"] = text
        rows[name]["ambiguous among acquired"] = np.mean([curve["ambiguous"][-1] for curve in curves.values()])
        rows[name]["seconds of a step"] = seconds.get(name)
    steps = len(record["curves"]["student"]["0"]["labels"])
    many, few = pays_from(seconds, CLEAN + ambiguous_digits.AMBIGUOUS, steps)
    caption = (
        f"Means and ranges over the seeds. The teacher takes {PASSES} passes, or {FEW_PASSES}; a student is distilled "
        f"on {DISTILLED} images at every step, or once in {AGAIN} steps, which then share its cost. Seconds: to choose "
        f"from the pool, without the training of the network. A student of every step is cheaper than {PASSES} passes "
        f"for pools above {many:.0f} images, and than {FEW_PASSES} passes above {few:.0f}"
    )
    return {caption: rows}


if __name__ == "__main__":
    common.start(main, Settings, __doc__)
