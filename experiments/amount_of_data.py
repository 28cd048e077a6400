"""Does the epistemic uncertainty fall as training images are added, and does the aleatoric one stay (Kendall & Gal
2017, table 3)?

    python experiments/amount_of_data.py --config configs/amount_of_data.yaml

Teachers of a quarter, a half and all of CIFAR-10's training images, each trained for the same number of steps, and a
Dirichlet and a Gaussian student of each. Writes results/<name>/amount_of_data.json, README.md and a figure.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import training  # noqa: F401  # isort: skip  # first: Ctrl-C during the other imports then prints one line
from dataclasses import asdict, dataclass, replace
from functools import partial

from matplotlib.figure import Figure
from torch.utils.data import TensorDataset

import data
import train_student
import train_teacher
from configs.schema import Config, Data, DataSet, RunName
from methods import student
from methods.teacher import load_teacher
from models.inference import outputs_of
from plots.style import BLUE, GREEN, ORANGE, markdown, save
from training import artifact, cli
from training.compute import choose
from training.run import made_by
from uncertainty.distribution import Distribution
from uncertainty.mc_dropout import Plan, samples_of

PARTS = {"quarter": 4, "half": 2, "whole": 1}
SHOWN = {
    "predictive_entropy": "predictive entropy",
    "expected_entropy": "aleatoric: expected entropy",
    "mutual_information": "epistemic: mutual information",
    "total_variance": "epistemic: total variance",
}
COLOURS = {"teacher": BLUE, "Gaussian student": GREEN, "Dirichlet student": ORANGE}


@dataclass
class Settings:
    """settings: of the teacher and the students; `epochs` are those of all images. passes: of the teacher. runs: the
    folder of the networks."""

    name: RunName = "amount_of_data"
    settings: str = "configs/tuning.yaml"
    passes: int = 100
    runs: str = "runs"
    seed: int = 0


def some_of(split: str, divisor: int) -> TensorDataset:
    """One of every `divisor` training images of CIFAR-10; all test images."""
    images = data.load(DataSet("cifar10"), split, Data(size=32, channels=3))
    chosen = slice(None, None, divisor if split == "train" else 1)
    return TensorDataset(images.images[chosen], images.labels[chosen])


quarter, half, whole = (partial(some_of, divisor=divisor) for divisor in PARTS.values())  # for `data.train`


def main(settings: Settings) -> None:
    """Train, measure, and write the page."""
    found = {name: of_part(name, settings) for name in PARTS}
    record = {"settings": asdict(settings), "provenance": made_by(str(choose("auto", "auto"))), "parts": found}
    folder = Path("results") / settings.name
    artifact.write_json(folder / "amount_of_data.json", record)
    save(by_amount(record), folder / "by_amount.png")
    artifact.write_text(folder / "README.md", page(record))
    print(page(record))


def of_part(part: str, settings: Settings) -> dict:
    """The number of training images, the teacher's accuracy, and the mean uncertainties of teacher and students on each
    set."""
    configs = configs_of(part, settings)
    first = next(iter(configs.values()))
    train_teacher.main(first, overwrite=False)
    compute = choose(first.device, first.dtype)
    teacher = load_teacher(first, compute)
    train, _ = data.load_train(first.data, first.split_seed, first.teacher.train_on_all)
    test, unknown = data.load_evaluation(first.data, train.classes, first.split_seed)
    said: dict[str, dict[str, Distribution]] = {"teacher": {}} | {who: {} for who in configs}
    sampler, _ = teacher.samplers("mc_dropout")
    for dataset in (test, unknown):
        plan = Plan(settings.passes, "grouped", 256, (settings.seed, "amount of data", dataset.name))
        with compute.autocast():
            said["teacher"][dataset.name] = samples_of(sampler, dataset.images, plan, 512)
    for who, config in configs.items():
        train_student.main(config, overwrite=False)
        model, _ = student.load_distilled(config, compute, teacher)
        for dataset in (test, unknown):
            said[who][dataset.name] = model.distribution(outputs_of(model.outputs, dataset, compute).cpu())
    return {
        "images": len(train),
        "accuracy": (said["teacher"][test.name].predicted == test.labels).double().mean().item(),
        "means": {who: {"test": means(of[test.name]), "unknown": means(of[unknown.name])} for who, of in said.items()},
    }


def configs_of(part: str, settings: Settings) -> dict[str, Config]:
    """The config of each student; the first one's run has the teacher."""
    base, _ = cli.parse(["--config", settings.settings])
    changes = {
        "name": f"{settings.name}/{part}",
        "runs": settings.runs,
        "seed": settings.seed,
        "compared_on": "test",
        "data": {
            "train": {"source": f"experiments/amount_of_data.py:{part}", "name": f"CIFAR-10 {part}"},
            "ood": [{"source": "cifar100", "name": "CIFAR-100"}],
        },
        "teacher": {"train_on_all": True, "epochs": base.teacher.epochs * PARTS[part]},
        "student": {"method": "logit_gaussian", "epochs": base.student.epochs * PARTS[part]},
    }
    gaussian = cli.override(replace(base, rows=[]), changes, "amount_of_data")
    other = {"name": f"{gaussian.name}_dirichlet", "teacher_of": gaussian.name, "student": {"method": "dirichlet"}}
    return {"Gaussian student": gaussian, "Dirichlet student": cli.override(gaussian, other, "amount_of_data")}


def means(said: Distribution) -> dict[str, float]:
    """The mean of each measure over images."""
    return {measure: getattr(said, measure).double().mean().item() for measure in SHOWN}


def by_amount(record: dict) -> Figure:
    """A panel for each measure: its mean against the number of training images, on test images and on unknown ones."""
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    figure.suptitle("Mean uncertainty and the number of training images (CIFAR-10; dashed: CIFAR-100)")
    counts = [of["images"] for of in record["parts"].values()]
    axes = figure.subplots(1, len(SHOWN))
    for axis, (measure, title) in zip(axes, SHOWN.items()):
        for who, colour in COLOURS.items():
            for place, style in (("test", "-"), ("unknown", "--")):
                heights = [of["means"][who][place][measure] for of in record["parts"].values()]
                axis.plot(counts, heights, style, marker="o", color=colour, label=who if place == "test" else None)
        axis.set(title=title, xscale="log", xlabel="training images")
        axis.set_ylim(bottom=0)
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.minorticks_off()
    axes[0].legend()
    return figure


def page(record: dict) -> str:
    """The results as Markdown."""
    ran, parts = record["provenance"], record["parts"].values()
    rows = [["the teacher's accuracy", *(f"{of['accuracy']:.3f}" for of in parts)]]
    for place, where in (("test", "CIFAR-10's test images"), ("unknown", "CIFAR-100's")):
        for measure, title in SHOWN.items():
            for who in COLOURS:
                rows.append([f"{where}: {title}, {who}", *(f"{of['means'][who][place][measure]:.4f}" for of in parts)])
    heads = [f"{of['images']} images" for of in parts]
    return (
        f"# amount_of_data\n\nMade by `{ran['command']}` (commit {ran['commit']}; {ran['device']}). Means over images; "
        f"{record['settings']['passes']} passes of the teacher; one seed.\n\n{markdown(['', *heads], rows)}\n\n"
        "![By amount](by_amount.png)\n"
    )


if __name__ == "__main__":
    cli.guard(lambda: main(cli.read_settings(Settings, __doc__)))
