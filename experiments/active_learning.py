"""Which images should be labelled next (Gal et al. 2017; Mukhoti et al. 2021)? By chance, by softmax entropy, by the
teacher's mutual information (BALD), by its student's, or by the density of features.

    python experiments/active_learning.py --config configs/active_learning.yaml

The pool has few clean and many ambiguous digits (those of dirty_mnist.py), so an acquisition that takes uncertain
images of any kind wastes labels. Every network is a LeNet with dropout, trained anew on the labels so far. The student
is distilled on images of the pool, without labels, at each step, or kept for a few steps. Few passes of the teacher
cost as little as a student: is it better than they? Writes results/<name>/active_learning.json, README.md and a figure.
The same command continues: what is finished is kept in runs/<name>/.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import training  # noqa: F401  # isort: skip  # first: Ctrl-C during the other imports then prints one line
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from configs.errors import UserError
from configs.schema import Config, RunName
from data.dataset import Dataset
from experiments import dirty_mnist
from methods.student import Student
from methods.teacher import Teacher
from methods.teachers import ddu
from models.inference import outputs_of
from plots.style import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, markdown, save
from train_student import distil
from training import artifact, cli
from training.bar import progress_bar
from training.compute import Compute, choose
from training.run import made_by
from training.seeds import seed_of
from uncertainty.delta import Delta
from uncertainty.mc_dropout import Plan, samples_of
from uncertainty.speed import in_turn

COLOURS = {
    "random": GREY, "softmax entropy": GREEN, "teacher (BALD)": BLUE, "teacher, few passes": SKY, "student": ORANGE,
    "student of every step": RED, "feature density": PINK,
}  # fmt: skip
CLASSES = [str(digit) for digit in range(10)]
SHOWN = (50, 100, 200)  # labels


@dataclass
class Settings:
    """clean, ambiguous: images of the pool. first: labels to begin with, as many of each class; each: labels of a step;
    last: labels at the end. epochs: of each network. passes, few_passes: of the teacher. again: the student is
    distilled every so many steps, on `distilled` images of the pool, for `student_epochs`. runs: the folder of the
    students and of what is finished."""

    name: RunName = "active_learning"
    mnist: str = "datasets"
    clean: int = 1000
    ambiguous: int = 20_000
    first: int = 20
    each: int = 10
    last: int = 200
    epochs: int = 200
    passes: int = 50
    few_passes: int = 8
    again: int = 4
    distilled: int = 5000
    student_epochs: int = 4
    seeds: int = 3
    runs: str = "runs"


@dataclass
class State:
    """What an acquisition may look at. step: 0, 1, ...; labelled: positions in the pool; student: of this or of an
    earlier step."""

    teacher: Teacher
    pool: Dataset
    labelled: Tensor
    step: int
    seed: int
    settings: Settings
    compute: Compute
    student: Student | None = None


def by_chance(state: State) -> Tensor:
    """A random order."""
    return torch.rand(len(state.pool))


def by_softmax(state: State) -> Tensor:
    """The entropy of one pass without dropout."""
    return Delta(outputs_of(state.teacher.network, state.pool, state.compute)).predictive_entropy


def by_teacher(state: State, few: bool = False) -> Tensor:
    """The mutual information of passes with dropout (Houlsby et al. 2011; Gal et al. 2017)."""
    plan = Plan(
        state.settings.few_passes if few else state.settings.passes,
        "grouped",
        256,
        (state.seed, "acquisition", state.step),
    )
    sampler, _ = state.teacher.samplers("mc_dropout")
    return samples_of(sampler, state.pool.images, plan, 512).mutual_information


def by_student(state: State, every_step: bool = False) -> Tensor:
    """The mutual information of a student, distilled from the network of this step or of one less than `again` steps
    ago."""
    settings = state.settings
    if every_step or state.step % settings.again == 0:
        changes = {
            "name": f"{settings.name}/student",
            "runs": settings.runs,
            "seed": state.seed,
            "device": "cpu",
            "dtype": "float32",
            "data": {"augmentation": {"flip": False, "crop": 2}},
            "sampling": {"passes": 16},
            "student": {"method": "logit_gaussian", "epochs": settings.student_epochs},
        }
        some = torch.randperm(len(state.pool))[: settings.distilled]
        config = cli.override(Config(), changes, "active_learning")
        state.student = distil(
            state.teacher, state.pool.subset(some), views=["plain", "augmented"], config=config, overwrite=True
        )
    with torch.inference_mode():
        return torch.cat([state.student(images).mutual_information for images in state.pool.images.split(1024)])


def by_density(state: State) -> Tensor:
    """−log q(z) of the last hidden layer, Gaussians of the labelled images (Mukhoti et al. 2021; here without spectral
    norm)."""
    features = outputs_of(state.teacher.network.body, state.pool, state.compute)
    gaussians, log_share = ddu.fit(features[state.labelled], state.pool.labels[state.labelled])
    return -ddu.log_density(features, gaussians, log_share)


ACQUISITIONS: dict[str, Callable[[State], Tensor]] = {
    "random": by_chance,
    "softmax entropy": by_softmax,
    "teacher (BALD)": by_teacher,
    "teacher, few passes": partial(by_teacher, few=True),
    "student": by_student,
    "student of every step": partial(by_student, every_step=True),
    "feature density": by_density,
}


def main(settings: Settings) -> None:
    """Run every acquisition with every seed, and write the page."""
    train, test = dirty_mnist.digits_of(dirty_mnist.Settings(mnist=settings.mnist))
    compute = choose("cpu", "float32")
    folder = Path("results") / settings.name
    file = Path(settings.runs) / settings.name / "active_learning.json"
    record = artifact.read_json(file) if file.exists() else {}
    if record.get("settings") != asdict(settings):
        record = {"settings": asdict(settings), "provenance": made_by(str(compute)), "curves": {}}
    for seed in range(settings.seeds):
        pool, clean = pool_of(train, seed, settings)
        for name, acquire in ACQUISITIONS.items():
            curves = record["curves"].setdefault(name, {})
            if str(seed) not in curves:
                curves[str(seed)] = curve(acquire, pool, clean, test, seed, settings, compute, name)
                artifact.write_json(file, record)
    if "seconds" not in record:
        record["seconds"] = seconds_of_a_step(pool_of(train, 0, settings)[0], settings, compute)
        artifact.write_json(file, record)
    artifact.write_json(folder / "active_learning.json", record)
    save(figure_of(record), folder / "accuracy_by_labels.png")
    artifact.write_text(folder / "README.md", page(record))
    print(page(record))


def pool_of(train: Dataset, seed: int, settings: Settings) -> tuple[Dataset, Tensor]:
    """Clean and ambiguous digits together, an ambiguous one with the first of its labels; and which of them are
    clean."""
    arrays = np.load(dirty_mnist.IMAGES)
    if len(arrays["train_ambiguous"]) < settings.ambiguous:
        raise UserError(
            f"ambiguous: there are {len(arrays['train_ambiguous'])} ambiguous images, not {settings.ambiguous}"
        )
    clean = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[: settings.clean]
    unclear, labels = (
        torch.from_numpy(arrays[f"train_ambiguous{name}"])[: settings.ambiguous] for name in ("", "_labels")
    )
    images = torch.cat([train.images[clean], unclear])
    pool = Dataset("pool", images, torch.cat([train.labels[clean], labels[:, 0]]), [""] * len(images), CLASSES)
    return pool, torch.arange(len(images)) < len(clean)


def curve(
    acquire: Callable[[State], Tensor],
    pool: Dataset,
    clean: Tensor,
    test: Dataset,
    seed: int,
    settings: Settings,
    compute: Compute,
    name: str,
) -> dict[str, list[float]]:
    """After each step: labels, accuracy on the test images, and the share of ambiguous images among the acquired
    ones."""
    torch.manual_seed(seed)
    candidates = [(clean & (pool.labels == c)).nonzero().flatten() for c in range(len(CLASSES))]
    labelled = torch.cat([of[torch.randperm(len(of))[: settings.first // len(CLASSES)]] for of in candidates])
    first, found = len(labelled), {"labels": [], "accuracy": [], "ambiguous": []}
    student = None
    for step in progress_bar(
        range((settings.last - first) // settings.each + 1), desc=f"{name}, seed {seed}", unit="step"
    ):
        torch.manual_seed(seed_of(seed, "active learning", step))  # the same start for every acquisition
        network = dirty_mnist.lenet(0.3)
        loss = partial(cross_entropy, network)
        dirty_mnist.trained(
            network.train(), loss, [pool.images[labelled], pool.labels[labelled]], settings.epochs, "LeNet"
        )
        state = State(teacher_of(network), pool, labelled, step, seed, settings, compute, student)
        predicted = outputs_of(state.teacher.network, test, compute).argmax(1)
        found["labels"].append(len(labelled))
        found["accuracy"].append((predicted == test.labels).float().mean().item())
        found["ambiguous"].append((~clean[labelled[first:]]).float().mean().item() if step else 0.0)
        scores = acquire(state).double()
        student = state.student
        scores[labelled] = -torch.inf
        labelled = torch.cat([labelled, scores.topk(settings.each).indices])
    return found


def teacher_of(network: nn.Module) -> Teacher:
    """A teacher whose images are pixels in [0, 1]."""
    return Teacher.from_module(network, [0.0], [1.0], size=28, classes=CLASSES, channels=1)


def cross_entropy(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Of images uint8 [N, 28, 28, 1], in nats."""
    return F.cross_entropy(network(images.float().permute(0, 3, 1, 2) / 255), labels)


def figure_of(record: dict) -> Figure:
    """Accuracy, and the share of ambiguous images, against the number of labels: means and ranges over the seeds."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    figure.suptitle("Active learning on clean and ambiguous digits (lines: means; bands: all seeds)")
    titles = {"accuracy": "accuracy on clean test images", "ambiguous": "share of ambiguous images among acquired ones"}
    for axis, (what, title) in zip(figure.subplots(1, 2), titles.items()):
        for name, curves in record["curves"].items():
            labels = next(iter(curves.values()))["labels"]
            values = np.array([of[what] for of in curves.values()])
            axis.plot(labels, values.mean(0), color=COLOURS[name], label=name)
            axis.fill_between(labels, values.min(0), values.max(0), color=COLOURS[name], alpha=0.15, linewidth=0)
        axis.set(title=title, xlabel="labels")
    axis.legend()
    return figure


def seconds_of_a_step(pool: Dataset, settings: Settings, compute: Compute) -> dict[str, float]:
    """Of choosing from the pool by passes of the teacher, by one pass of a student, and by a distillation with one
    pass; medians of three, measured in turn."""
    state = State(teacher_of(dirty_mnist.lenet(0.3)), pool, torch.arange(0), 0, 0, settings, compute)
    tried = {
        "teacher (BALD)": 0,
        "teacher, few passes": 0,
        "student of every step": 0,
        "student": 1,
    }  # its step: an old student at 1

    def choose_at(name: str, step: int) -> None:
        state.step = step
        ACQUISITIONS[name](state)

    seconds = in_turn({name: partial(choose_at, name, step) for name, step in tried.items()}, 3)
    median = {name: float(np.median(times)) for name, times in seconds.items()}
    return median | {
        "student": (median["student of every step"] + (settings.again - 1) * median["student"]) / settings.again
    }


def pays_from(seconds: dict[str, float], settings: dict) -> dict[str, float]:
    """The size of the pool above which a student of every step costs less than the teacher's passes: a distillation
    costs the same for any pool, passes grow with it. seconds: of a step of today's pool."""
    images, again, every_step = (
        settings["clean"] + settings["ambiguous"],
        settings["again"],
        seconds["student of every step"],
    )
    one_pass = (again * seconds["student"] - every_step) / (again - 1)
    return {
        name: images * (every_step - one_pass) / (seconds[name] - one_pass)
        for name in ("teacher (BALD)", "teacher, few passes")
    }


def page(record: dict) -> str:
    """The results as Markdown."""
    ran, settings, seconds = record["provenance"], record["settings"], record["seconds"]
    rows = []
    for name, curves in record["curves"].items():
        labels = next(iter(curves.values()))["labels"]
        accuracy, share = (np.array([of[what] for of in curves.values()]) for what in ("accuracy", "ambiguous"))
        places = [labels.index(count) for count in SHOWN if count in labels]
        shown = [f"{accuracy[:, i].mean():.3f} ({accuracy[:, i].min():.3f}-{accuracy[:, i].max():.3f})" for i in places]
        rows.append([name, *shown, f"{share[:, -1].mean():.2f}", f"{seconds[name]:.1f}" if name in seconds else "-"])
    images, pays = settings["clean"] + settings["ambiguous"], pays_from(seconds, settings)
    heads = [f"accuracy, {count} labels" for count in SHOWN if count in labels]
    return (
        f"# active_learning\n\nMade by `{ran['command']}` (commit {ran['commit']}; {ran['device']}). Means and ranges over "
        f"{settings['seeds']} seeds.\n\n{markdown(['acquisition', *heads, 'ambiguous among acquired', 'seconds of a step'], rows)}\n\n"
        f"The teacher takes {settings['passes']} passes, or {settings['few_passes']}. The student is distilled on {settings['distilled']} "
        f"images at every step, or once in {settings['again']} steps, which then share its cost. Seconds: to choose from "
        f"{images} images, without the training of the network. A student of every step is cheaper than {settings['passes']} passes for "
        f"pools above {pays['teacher (BALD)']:.0f} images, "
        f"and than {settings['few_passes']} passes above {pays['teacher, few passes']:.0f}.\n\n"
        "![Accuracy by labels](accuracy_by_labels.png)\n"
    )


if __name__ == "__main__":
    cli.guard(lambda: main(cli.read_settings(Settings, __doc__)))
