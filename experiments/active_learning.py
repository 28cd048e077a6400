"""Which images should be labelled next (Gal et al. 2017; Mukhoti et al. 2021)? By chance, by softmax entropy, by the
teacher's mutual information (BALD), by its student's, or by the density of features.

    python experiments/active_learning.py          # some two hours on one CPU core

The pool has few clean and many ambiguous digits (`ambiguous_digits`, of MNIST from datasets/), so an acquisition that
takes uncertain images of any kind wastes labels. Every network is a LeNet with dropout, trained anew on the labels so
far. The student is distilled on images of the pool, without labels, at each step, or kept for a few steps. Few passes
of the teacher cost as little as a student: is it better than they? Writes results/active_learning/. The same command
continues: what is finished is kept in runs/active_learning/.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from configs.schema import Config
from data.dataset import Dataset
from experiments import ambiguous_digits, common
from methods.student import Student
from methods.teacher import Teacher
from methods.teachers import ddu
from models.inference import outputs_of
from plots.style import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY
from train_student import distil
from training import cli
from training.bar import progress_bar
from training.compute import choose
from training.seeds import seed_of
from uncertainty.distribution import entropy
from uncertainty.speed import in_turn

COMPUTE = choose("cpu", "float32")
CLEAN = 1000  # images of the pool, beside all ambiguous ones
FIRST, STEP = 20, 10  # labels to begin with, as many of each class, and labels of a step
PASSES, FEW_PASSES = 50, 8  # of the teacher
AGAIN, DISTILLED = 4, 5000  # a student is distilled every so many steps, on so many images of the pool
SHOWN = (50, 100, 200)  # labels


@dataclass
class Settings:
    """last: labels at the end. epochs: of each network, and of a student."""

    last: int = 200
    epochs: int = 200
    student_epochs: int = 4
    seeds: int = 3


@dataclass
class State:
    """What an acquisition may look at. step: 0, 1, ...; labelled: positions in the pool; student: of this or of an
    earlier step."""

    network: nn.Module
    pool: Dataset
    labelled: Tensor
    step: int
    seed: int
    settings: Settings
    student: Student | None = None

    @property
    def teacher(self) -> Teacher:
        """The network as a teacher, whose images are pixels in [0, 1]."""
        return Teacher.from_module(self.network, [0.0], [1.0], size=28, classes=self.pool.classes, channels=1)


def by_chance(state: State) -> Tensor:
    """A random order."""
    return torch.rand(len(state.pool))


def by_softmax(state: State) -> Tensor:
    """The entropy of one pass without dropout."""
    return entropy(outputs_of(state.teacher.network, state.pool, COMPUTE).softmax(-1))


def by_teacher(state: State, passes: int) -> Tensor:
    """The mutual information of passes with dropout (Houlsby et al. 2011; Gal et al. 2017)."""
    key = (state.seed, "acquisition", state.step)
    return common.sample_images(state.teacher, state.pool.images, passes, key, COMPUTE).mutual_information


def by_student(state: State, again: int) -> Tensor:
    """The mutual information of a student, distilled from the network of this step or of one less than `again` steps
    ago."""
    if state.step % again == 0:
        changes = {
            "name": "active_learning/student",
            "seed": state.seed,
            "device": "cpu",
            "dtype": "float32",
            "data": {"augmentation": {"flip": False, "crop": 2}},
            "sampling": {"passes": 16, "views": ["plain", "augmented"]},
            "student": {"method": "logit_gaussian", "epochs": state.settings.student_epochs},
        }
        images = state.pool.subset(torch.randperm(len(state.pool))[:DISTILLED])
        config = cli.override(Config(), changes, "active_learning")
        state.student = distil(state.teacher, images, config=config, overwrite=True)
    with torch.inference_mode():
        return torch.cat([state.student(images).mutual_information for images in state.pool.images.split(1024)])


def by_density(state: State) -> Tensor:
    """−log q(z) of the last hidden layer, Gaussians of the labelled images (Mukhoti et al. 2021; here without spectral
    norm)."""
    features = outputs_of(state.teacher.network.body, state.pool, COMPUTE)
    return -ddu.log_density(features, *ddu.fit(features[state.labelled], state.pool.labels[state.labelled]))


ACQUISITIONS: dict[str, tuple[Callable[[State], Tensor], str]] = {  # and their colours
    "random": (by_chance, GREY),
    "softmax entropy": (by_softmax, GREEN),
    "teacher (BALD)": (partial(by_teacher, passes=PASSES), BLUE),
    "teacher, few passes": (partial(by_teacher, passes=FEW_PASSES), SKY),
    "student": (partial(by_student, again=AGAIN), ORANGE),
    "student of every step": (partial(by_student, again=1), RED),
    "feature density": (by_density, PINK),
}


def make_pool(train: Dataset, ambiguous: Tensor, labels: Tensor, seed: int) -> tuple[Dataset, Tensor]:
    """Clean and ambiguous digits together, an ambiguous one with the first of its labels; and which ones are clean."""
    clean = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:CLEAN]
    images = torch.cat([train.images[clean], ambiguous])
    pool = Dataset("pool", images, torch.cat([train.labels[clean], labels[:, 0]]), [""] * len(images), train.classes)
    return pool, torch.arange(len(images)) < len(clean)


def learn(
    acquire: Callable[[State], Tensor], pool: Dataset, clean: Tensor, test: Dataset, seed: int, settings: Settings
) -> dict:
    """After each step: labels, accuracy on the test images, and the share of ambiguous images among the acquired
    ones."""
    torch.manual_seed(seed)
    candidates = [(clean & (pool.labels == c)).nonzero().flatten() for c in range(10)]
    labelled = torch.cat([rows[torch.randperm(len(rows))[: FIRST // 10]] for rows in candidates])
    curve, student = {"labels": [], "accuracy": [], "ambiguous": []}, None

    def cross_entropy(images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(network(images.float().permute(0, 3, 1, 2) / 255), labels)

    for step in progress_bar(range((settings.last - FIRST) // STEP + 1), desc=f"seed {seed}", unit="step"):
        torch.manual_seed(seed_of(seed, "active learning", step))  # the same start for every acquisition
        network = ambiguous_digits.lenet(0.3)
        ambiguous_digits.train(network, cross_entropy, [pool.images[labelled], pool.labels[labelled]], settings.epochs)
        state = State(network, pool, labelled, step, seed, settings, student)
        predicted = outputs_of(state.teacher.network, test, COMPUTE).argmax(1)
        curve["labels"].append(len(labelled))
        curve["accuracy"].append((predicted == test.labels).double().mean().item())
        curve["ambiguous"].append((~clean[labelled[FIRST:]]).double().mean().item() if step else 0.0)
        scores = acquire(state).double()
        student = state.student
        scores[labelled] = -torch.inf
        labelled = torch.cat([labelled, scores.topk(STEP).indices])
    return curve


def seconds_of_a_step(pool: Dataset, settings: Settings) -> dict[str, float]:
    """Of choosing from the pool by passes of the teacher, by one pass of a student, and by a distillation with one
    pass; medians of three, measured in turn."""
    state = State(ambiguous_digits.lenet(0.3).eval(), pool, torch.arange(0), 0, 0, settings)

    def choose_at(name: str, step: int) -> None:
        state.step = step
        ACQUISITIONS[name][0](state)

    names = {
        "teacher (BALD)": 0,
        "teacher, few passes": 0,
        "student of every step": 0,
        "student": 1,
    }  # at 1: an old one
    seconds = in_turn({name: partial(choose_at, name, step) for name, step in names.items()}, 3)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    return medians | {"student": (medians["student of every step"] + (AGAIN - 1) * medians["student"]) / AGAIN}


def pays_from(seconds: dict[str, float], images: int) -> dict[str, float]:
    """The size of the pool above which a student of every step costs less than the teacher's passes: a distillation
    costs the same for any pool, passes grow with it. seconds: of a step of a pool of so many images."""
    every_step = seconds["student of every step"]
    one_pass = (AGAIN * seconds["student"] - every_step) / (AGAIN - 1)
    passes = {name: seconds[name] for name in ("teacher (BALD)", "teacher, few passes")}
    return {name: images * (every_step - one_pass) / (value - one_pass) for name, value in passes.items()}


def main(settings: Settings) -> None:
    """Run every acquisition with every seed, and write the page."""
    train, test, arrays = ambiguous_digits.load_digits()
    ambiguous, labels = (torch.from_numpy(arrays[f"train_ambiguous{name}"]) for name in ("", "_labels"))
    origin = common.provenance(settings, "cpu", "float32")
    record = origin | {"curves": {name: {} for name in ACQUISITIONS}}
    for seed in range(settings.seeds):
        pool, clean = make_pool(train, ambiguous, labels, seed)
        for name, (acquire, _) in ACQUISITIONS.items():
            file = Path(f"runs/active_learning/{name}-{seed}.json")
            measure = partial(learn, acquire, pool, clean, test, seed, settings)
            record["curves"][name][str(seed)] = common.kept(file, settings, measure)
    record["seconds"] = seconds_of_a_step(pool, settings)
    common.write("active_learning", record, page, accuracy_by_labels=figure_of(record["curves"]))


def figure_of(curves: dict[str, dict]) -> Figure:
    """Accuracy, and the share of ambiguous images, against the number of labels: means and ranges over the seeds."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    figure.suptitle("Active learning on clean and ambiguous digits (lines: means; bands: all seeds)")
    for axis, quantity in zip(figure.subplots(1, 2), ("accuracy", "ambiguous"), strict=True):
        for name, (_, colour) in ACQUISITIONS.items():
            values = np.array([curve[quantity] for curve in curves[name].values()])
            labels = curves[name]["0"]["labels"]
            axis.plot(labels, values.mean(0), color=colour, label=name)
            axis.fill_between(labels, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
        axis.set(xlabel="labels", title="accuracy" if quantity == "accuracy" else "share of ambiguous images acquired")
    axis.legend()
    return figure


def page(record: dict) -> str:
    """The results as Markdown."""
    seconds, rows = record["seconds"], {}
    for name, curves in record["curves"].items():
        labels = curves["0"]["labels"]
        accuracy, ambiguous = (np.array([curve[of] for curve in curves.values()]) for of in ("accuracy", "ambiguous"))
        rows[name] = {
            f"accuracy, {labels[i]} labels": f"{a.mean():.3f} ({a.min():.3f}-{a.max():.3f})"
            for i, a in enumerate(accuracy.T)
            if labels[i] in SHOWN
        }
        rows[name] |= {"ambiguous among acquired": ambiguous[:, -1].mean(), "seconds of a step": seconds.get(name)}
    many, few = pays_from(seconds, CLEAN + ambiguous_digits.AMBIGUOUS).values()
    return f"""# active_learning

{common.origin(record)} Means and ranges over the seeds.

{common.table(rows)}

The teacher takes {PASSES} passes, or {FEW_PASSES}. The student is distilled on {DISTILLED} images at every step, or
once in {AGAIN} steps, which then share its cost. Seconds: to choose from the pool, without the training of the network.
A student of every step is cheaper than {PASSES} passes for pools above {many:.0f} images, and than {FEW_PASSES} passes
above {few:.0f}.

![Accuracy by labels](accuracy_by_labels.png)
"""


if __name__ == "__main__":
    common.start(main, Settings, __doc__)
