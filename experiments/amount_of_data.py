"""Does the epistemic uncertainty fall as training images are added, and does the aleatoric one stay (Kendall & Gal
2017, table 3)?

    python -m experiments.amount_of_data          # some 40 minutes on one CPU core with bfloat16 instructions

Teachers of a quarter, a half and all of CIFAR-10's training images, each trained for the same number of steps, and a
Gaussian and a Dirichlet student of each. CIFAR-100 is unknown to them. Takes both from datasets/, or downloads them.
Writes results/amount_of_data/; networks are in runs/amount_of_data/.
"""

from dataclasses import replace
from functools import partial
from itertools import product

from torch.utils.data import TensorDataset

import data
from configs import cli
from configs.errors import UserError
from configs.schema import Config, Data, DataSet, Seed, dataclass
from experiments import common
from models.inference import outputs_of
from plots.style import BLUE, GREEN, ORANGE
from train_student import distil

PASSES = 100  # of the teacher
PARTS = {"quarter": 4, "half": 2, "whole": 1}
MEASURES = {
    "predictive_entropy": "predictive entropy",
    "expected_entropy": "aleatoric: expected entropy",
    "mutual_information": "epistemic: mutual information",
    "total_variance": "epistemic: total variance",
}
COLOURS = {"teacher": BLUE, "Gaussian student": GREEN, "Dirichlet student": ORANGE}
STUDENTS = {"Gaussian student": "logit_gaussian", "Dirichlet student": "dirichlet"}
STYLES = {"test": "-", "unknown": "--"}


@dataclass
class Settings:
    """What can be set on the command line."""

    networks: str = "configs/tuning.yaml"
    """Settings of the teacher and the students; their epochs are those of all images."""
    seed: Seed = 0


def every(divisor: int, split: str) -> TensorDataset:
    """One of every `divisor` training images of CIFAR-10; all test images."""
    images = data.load(DataSet("cifar10"), split, Data(size=32, channels=3))
    rows = slice(None, None, divisor if split == "train" else 1)
    return TensorDataset(images.images[rows], images.labels[rows])


quarter, half, whole = (partial(every, divisor) for divisor in PARTS.values())  # for `data.train`


def config_of(part: str, method: str, settings: Settings) -> Config:
    """The teacher of a part of the images, with a student of a method; both students have the same teacher."""
    base, _ = cli.parse(["--config", settings.networks])
    if base.teacher.epochs is None or base.student.epochs is None:
        raise UserError(f"{settings.networks}: teacher.epochs and student.epochs are needed")
    source = {"source": f"experiments/amount_of_data.py:{part}", "name": f"CIFAR-10 {part}"}
    changes = {
        "name": f"amount_of_data/{part}_{method}",
        "teacher_of": None if method == "logit_gaussian" else f"amount_of_data/{part}_logit_gaussian",
        "seed": settings.seed,
        "compared_on": "test",
        "data": {"train": source, "ood": [{"source": "cifar100", "name": "CIFAR-100"}]},
        "teacher": {"train_on_all": True, "epochs": base.teacher.epochs * PARTS[part]},
        "student": {"method": method, "epochs": base.student.epochs * PARTS[part]},
    }
    return cli.override(replace(base, rows=[]), changes, "amount_of_data")


def measure(part: str, settings: Settings) -> dict:
    """The number of training images, the teacher's accuracy, and the mean uncertainties of teacher and students on each
    set."""
    means = {name: {} for name in COLOURS}
    for name, method in STUDENTS.items():
        config = config_of(part, method, settings)
        teacher, compute = common.train_teacher(config)
        train, _ = data.load_train(config.data, config.split_seed, True)
        sets = dict(zip(STYLES, data.load_evaluation(config.data, train.classes, config.split_seed), strict=True))
        student = distil(teacher, train, config=config)
        for place, images in sets.items():
            means[name][place] = means_of(student.distribution(outputs_of(student.outputs, images, compute).cpu()))
    for place, images in sets.items():
        key = (settings.seed, "amount of data", images.name)
        samples = common.sample_images(teacher, images.images, PASSES, key, compute)
        means["teacher"][place] = means_of(samples)
        if place == "test":
            accuracy = (samples.predicted == images.labels).double().mean().item()
    return {"images": len(train), "accuracy": accuracy, "means": means}


def means_of(distribution) -> dict[str, float]:
    """The mean of each measure over images."""
    return {measure: getattr(distribution, measure).double().mean().item() for measure in MEASURES}


def main(settings: Settings) -> None:
    """Train, measure, and write the page."""
    record = common.provenance(settings) | {"parts": {part: measure(part, settings) for part in PARTS}}
    parts, panels = record["parts"].values(), {title: [] for title in MEASURES.values()}
    images = [str(part["images"]) for part in parts]
    for (place, style), name, measure_name in product(STYLES.items(), COLOURS, MEASURES):
        heights = [part["means"][name][place][measure_name] for part in parts]
        options = {"color": COLOURS[name], "ls": style}
        panels[MEASURES[measure_name]].append((images, heights, f"{name}, {place}", options))
    title = "Mean uncertainty and the number of training images (CIFAR-10; dashed: CIFAR-100)"
    common.write("amount_of_data", record, tables, by_amount=common.plot_lines(title, "training images", panels))


def tables(record: dict) -> common.Tables:
    """A line for each set, measure and network."""
    parts = record["parts"].values()
    rows = {"the teacher's accuracy": {f"{part['images']} images": part["accuracy"] for part in parts}}
    for place, measure_name, name in product(STYLES, MEASURES, COLOURS):
        values = {part["images"]: f"{part['means'][name][place][measure_name]:.4f}" for part in parts}
        rows[f"{place} images: {MEASURES[measure_name]}, {name}"] = values
    caption = f"Means over CIFAR-10's test images and CIFAR-100's (unknown); {PASSES} passes of the teacher; one seed"
    return {caption: rows}


if __name__ == "__main__":
    common.start(main, Settings, __doc__)
