"""Put methods beside each other: one split, one budget, one protocol, several seeds.

    python benchmark.py --config configs/benchmark/cifar10_cpu.yaml
    python -m plots.benchmark results/benchmark

Trains each row of the config's `benchmark` (teachers before their students), measures it, and writes
results/<name>/<row>-<seed>.json. The same command again goes on with what is not there, or was made by other settings; --overwrite
starts anew. A row that fails is written as failed, and tried again next time. The second command makes the table and the figures from
those files; the first ends with it.
"""

import json
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy import ndarray
from torch import nn

import data
import plots
import train_student
import train_teacher
from configs.schema import Config, Row
from data.dataset import Dataset
from methods import student, teacher, teacher_method
from methods.interface import Prediction, Predictor
from methods.teacher import Teacher
from models.architecture import Architecture
from models.folding import folded
from models.inference import outputs_of
from models.networks import build
from plots import benchmark as report
from plots.style import PANELS, save
from training import artifact, cli, process_group
from training.compute import Compute, choose
from training.errors import UserError
from training.run import begin, provenance
from uncertainty.cache import SampleCache
from uncertainty.classification import classification, ood_detection
from uncertainty.distribution import measures_of
from uncertainty.point import Point
from uncertainty.reference import Reference
from uncertainty.speed import cost
from uncertainty.temperature import fit_temperature, tempered


def main(config: Config, overwrite: bool) -> None:
    """One row after another, with one seed after another; then the table."""
    process_group.require_alone("benchmark.py")
    run, _ = begin(config, "benchmark")
    folder = Path("results") / config.name
    folder.mkdir(parents=True, exist_ok=True)
    todo = [(place, row, seed) for place, row in enumerate(config.benchmark, 1) for seed in row.seeds]
    todo.sort(key=lambda entry: entry[2])  # a whole table of one seed first
    if not todo:
        raise UserError("benchmark: this config has no rows")
    for place, row, seed in todo:
        file = folder / f"{slug_of(row.title)}-{seed}.json"
        record = {"title": row.title, "place": place, "kind": row.kind, "seed": seed}
        try:
            own = config_of(row, seed, config)
            record["settings"] = plain(own)
            if not overwrite and finished(file, record["settings"], own):
                continue
            run.log(f"row {place} of {len(config.benchmark)}: {row.title}, seed {seed}")
            train_teacher.main(own, overwrite)
            if row.kind == "student":
                train_student.main(own, overwrite)
            record |= measure(own, row, config)
        except Exception as error:  # whatever it is: the other rows go on, and the table says which failed
            run.log(f"{row.title}, seed {seed} failed: {error}")
            if not isinstance(error, UserError):
                traceback.print_exc()
            record["failed"] = f"{type(error).__name__}: {error}"
        artifact.write_json(file, record)
    report.main(folder, [row.title for row in config.benchmark])
    if any(source.source == "plane" for source in config.data.ood):
        save(draw_maps(config, folder), folder / "maps.png")


def finished(file: Path, settings: dict[str, Any], config: Config) -> bool:
    """Whether a row is there, of the same settings, and so is what it trained: a clone's results are no reason to train nothing."""
    if not file.exists() or not (Path(config.runs) / config.name).exists():
        return False
    record = json.loads(file.read_text())
    return "failed" not in record and record["settings"] == settings


def plain(config: Config) -> dict[str, Any]:
    """The settings of one row, as JSON has them."""
    settings = json.loads(json.dumps(asdict(config)))
    settings.pop("benchmark")
    return settings


def slug_of(title: str) -> str:
    """A title as part of a file's name."""
    return re.sub(r"[^a-z0-9+]+", "-", title.lower()).strip("-")


def config_of(row: Row, seed: int, base: Config) -> Config:
    """The benchmark's config, as the command line gives it, and as a row changes it."""
    own = ["--seed", str(seed), "--name", f"{base.name}/{slug_of(row.title)}-{seed}"]
    arguments = [argument for argument in sys.argv[1:] if argument != "--overwrite"]
    changes = changes_of(row, base).replace("{seed}", str(seed)).replace("{name}", base.name)
    return cli.parse([*arguments, *own, *shlex.split(changes)])[0]


def changes_of(row: Row, base: Config) -> str:
    """A row's changes after those of the row that it is of, whose networks it uses. Raises UserError if there is no such row."""
    if row.of is None:
        return row.changes
    parents = [other for other in base.benchmark if other.title == row.of]
    if not parents:
        raise UserError(f"benchmark: {row.title} is of {row.of}, and there is no row of that title")
    return f"{changes_of(parents[0], base)} --teacher_of {base.name}/{slug_of(row.of)}-{{seed}} {row.changes}"


@dataclass
class Subject:
    """One method, trained: how it predicts, the modules that it uses, and the seconds that its stages took."""

    predict: Predictor
    modules: list[nn.Module]
    seconds: dict[str, float]


def subject_of(config: Config, kind: str, trained: Teacher, train: Dataset, compute: Compute) -> Subject:
    """The method of a run's config."""
    members = config.teacher.members  # an ensemble's others are the reference
    training = trained.seconds * members / len(trained.networks)
    if kind == "student":
        model, distilled = student.load_distilled(config, compute, trained.checksum)

        def predict(images: torch.Tensor) -> Prediction:
            return Prediction(model.distribution(outputs_of(model.outputs, images, compute).cpu()))

        seconds = {"teacher": training, "sampling": distilled["sampling_seconds"], "student": distilled["seconds"]}
        return Subject(predict, [model], seconds)
    networks = [folded(network) for network in trained.networks]  # as students' are
    started = time.monotonic()
    predict = teacher_method(config.teacher.method).predictor(networks, train, config, compute)
    return Subject(predict, networks[:members], {"teacher": training, "fit": time.monotonic() - started})


def measure(config: Config, row: Row, base: Config) -> dict[str, Any]:
    """Everything of the protocol but the training; times are compared with the deterministic network of the `base` config."""
    run, compute = begin(config, "benchmark")
    trained = teacher.load_teacher(config, compute)
    compared_with = row.compared_with or (config.teacher.method if row.kind == "student" else None)
    train, validation = data.load_train(config.data, config.split_seed, config.teacher.train_on_all)
    if validation is None:
        raise UserError("a benchmark needs validation images, which fit the temperature: teacher.train_on_all has to be false")
    subject = subject_of(config, row.kind, trained, train, compute)
    inside, *outside = sets = data.load_evaluation(config.data, train.classes, config.split_seed)
    temperature = fit_temperature(subject.predict(validation.images).distribution.mean, validation.labels)

    said = {dataset.name: subject.predict(dataset.images) for dataset in sets}
    mean, labels = said[inside.name].distribution.mean.double(), inside.labels.numpy()
    values = {name: scores_of(prediction) for name, prediction in said.items()}
    names = list(values[inside.name])
    agreement = None
    if compared_with:
        cache = SampleCache(config, run, compute, trained.sampler(compared_with), trained.checksum)
        agreement = compare(cache, sets, values, compared_with)
    return {
        "provenance": provenance(config, compute, {dataset.name: dataset.fingerprint() for dataset in sets}),
        "teacher": config.teacher.method,
        "student": config.student.method if row.kind == "student" else None,
        "temperature": temperature,
        "before": classification(mean.numpy(), labels),
        "after": classification(tempered(mean, temperature).numpy(), labels),
        "ood": {
            dataset.name: {name: ood_detection(values[inside.name][name], values[dataset.name][name]) for name in names}
            for dataset in outside
        },
        "agreement": agreement,
        "cost": cost(scored(subject.predict), scored(baseline(base, len(train.classes), compute)), subject.modules, inside.images[:256]),
        "seconds": subject.seconds,
    }


def scores_of(prediction: Prediction) -> dict[str, ndarray]:
    """Every uncertainty [N] that a method gives, the higher the less sure: of one vector of probabilities, a single kind of entropy.

    Raises ValueError for a score that is not finite.
    """
    measures = measures_of(prediction.distribution)
    given = PANELS if not isinstance(prediction.distribution, Point) else ["predictive_entropy"]
    scores = {name: measures[name] for name in given}
    scores["max_probability"] = 1 - prediction.distribution.max_probability.double().numpy()
    scores |= {name: score.double().numpy() for name, score in prediction.scores.items()}
    for name, score in scores.items():
        if not np.isfinite(score).all():
            raise ValueError(f"{name} is not finite for {(~np.isfinite(score)).sum()} of {len(score)} inputs")
    return scores


def scored(predict: Predictor) -> Callable[[torch.Tensor], dict[str, ndarray]]:
    """A prediction with all of its uncertainties, which some methods compute when they are asked for."""
    return lambda images: scores_of(predict(images))


REFERENCES: dict[tuple, Reference] = {}  # of one teacher, for all of its students in this process


def compare(cache: SampleCache, sets: list[Dataset], values: dict[str, dict[str, ndarray]], method: str) -> dict[str, Any]:
    """Agreement of each uncertainty that there is with that of the teacher's samples, on every data set."""
    found = {}
    for dataset in sets:
        key = (cache.checksum, method, dataset.name, cache.config.seed)
        if key not in REFERENCES:
            REFERENCES[key] = Reference(cache, dataset, teacher_method(method).one_way)
        mine = values[dataset.name]
        found[dataset.name] = REFERENCES[key].judge(mine, [measure for measure in PANELS if measure in mine])
    return found


def baseline(base: Config, classes: int, compute: Compute) -> Predictor:
    """The deterministic network that times are compared with."""
    architecture = Architecture(base.teacher.network, base.teacher.width, base.data.size, base.data.channels, classes)
    network = folded(build(architecture).to(compute.device).eval())
    return teacher_method("deterministic").predictor([network], None, base, compute)


def draw_maps(config: Config, folder: Path) -> Figure:
    """Every uncertainty of every method over the plane."""
    train, *_ = data.load_train(config.data, config.split_seed, config.teacher.train_on_all)
    grid = next(dataset for dataset in data.load_evaluation(config.data, train.classes, config.split_seed) if len(dataset.classes) == 0)
    scores = {}
    for row in config.benchmark:
        file = folder / f"{slug_of(row.title)}-{row.seeds[0]}.json"
        if "failed" not in json.loads(file.read_text()):
            own = config_of(row, row.seeds[0], config)
            compute = choose(own.device, own.dtype)
            subject = subject_of(own, row.kind, teacher.load_teacher(own, compute), train, compute)
            scores[row.title] = scores_of(subject.predict(grid.images))
    return plots.maps(scores, train.images.numpy(), train.labels.numpy())


if __name__ == "__main__":
    cli.main(main, __doc__)
