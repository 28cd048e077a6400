"""Compare methods, or training recipes, on the same split, budget and protocol, with several seeds.

    python compare.py --config configs/comparison/cifar10_cpu.yaml      # methods, on test images
    python compare.py --config configs/fidelity.yaml                    # recipes, on validation images and shifts of them
    python -m plots.comparison results/comparison

Trains and measures each of the config's `rows`, and writes results/<name>/<row>-<seed>.json. The same command again
skips the rows that are finished with the same settings; --overwrite starts anew. A failed row is recorded as failed,
and tried again next time. The last command makes the tables and the figures from those files; compare.py also does so
at its end.
"""

import training  # noqa: F401  # isort: skip  # first: Ctrl-C during the other imports then prints one line
import json
import re
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy import ndarray
from scipy.stats import spearmanr
from torch import nn

import data
import plots
import train_student
import train_teacher
from configs.schema import Config, Evaluation, Row
from data.corruptions import shifted_sets
from data.dataset import Dataset
from data.shifts import shifted_parts
from methods import student, teacher, teacher_method
from methods.interface import Prediction, Predictor
from methods.teacher import Teacher
from models.folding import folded
from models.inference import outputs_of
from models.networks import build
from plots import comparison as report
from plots.style import save
from training import artifact, cli, process_group
from training.compute import Compute, choose
from configs.errors import UserError
from training.run import begin, provenance
from uncertainty.agreement import Reference
from uncertainty.cache import SampleCache
from uncertainty.classification import classification, ood_detection, resampled
from uncertainty.distribution import MEASURES, measures_of
from uncertainty.delta import Delta
from uncertainty.speed import cost
from uncertainty.temperature import fit_temperature, tempered


def main(config: Config, overwrite: bool) -> None:
    """Run every row with every seed, then make the table."""
    process_group.require_alone("compare.py")
    if not config.rows:
        raise UserError("rows: this config has none")
    if config.compared_on == "test" and not config.data.ood:
        raise UserError("data.ood: a comparison on test images needs one set or more")
    files = [f"{slug_of(row.title)}-{seed}" for row in config.rows for seed in row.seeds]
    if twice := {name for name in files if files.count(name) > 1}:
        raise UserError(
            f"rows: two would be written to {min(twice)}.json; give them titles that differ in letters or digits"
        )
    run, _ = begin(config, "compare", overwrite)
    folder = Path("results") / config.name
    todo = [(place, row, seed) for place, row in enumerate(config.rows, 1) for seed in row.seeds]
    todo.sort(key=lambda entry: entry[2])  # all rows of one seed before the next seed
    failed = 0
    for place, row, seed in todo:
        file = folder / f"{slug_of(row.title)}-{seed}.json"
        record = {"title": row.title, "place": place, "kind": row.kind, "seed": seed, "compared_on": config.compared_on}
        try:
            own = config_of(row, seed, config)
            record["settings"] = plain(own)
            if not run.lacks(file) and finished(file, record["settings"], own):
                continue
            run.log(f"row {place} of {len(config.rows)}: {row.title}, seed {seed}")
            train_teacher.main(own, run.overwrite and run.lacks(own.folder / teacher.FILE))
            if row.kind == "student":
                train_student.main(own, run.overwrite and run.lacks(own.folder / student.FILE))
            record |= measure(own, row, config)
        except Exception as error:  # any error: the other rows continue, and the table names the failed one
            run.log(f"{row.title}, seed {seed} failed: {error}")
            if not isinstance(error, UserError):
                traceback.print_exc()
            record["failed"] = f"{type(error).__name__}: {error}"
            failed += 1
            if file.exists():  # keep an earlier result rather than replace it by a failure
                continue
        artifact.write_json(file, record)
    run.end()
    if failed == len(todo):
        raise UserError(f"all {failed} rows failed; {run / 'log.txt'} says why")
    report.main(folder, [row.title for row in config.rows])
    if any(source.source == "plane" for source in config.data.ood):
        save(draw_maps(config, folder), folder / "maps.png")


def finished(file: Path, settings: dict[str, Any], config: Config) -> bool:
    """Whether a row's result exists with the same settings, and the folder of its run exists: a fresh clone has only
    the results.

    Raises UserError if the result is damaged.
    """
    if not file.exists() or not config.folder.exists():
        return False
    record = artifact.read_json(file)
    return isinstance(record, dict) and "failed" not in record and record.get("settings") == settings


def plain(config: Config) -> dict[str, Any]:
    """The settings of one row, as JSON values."""
    settings = json.loads(json.dumps(asdict(config)))
    settings.pop("rows")
    return settings


def slug_of(title: str) -> str:
    """A title in a form that fits into a file name."""
    return re.sub(r"[^a-z0-9+]+", "-", title.lower()).strip("-")


def config_of(row: Row, seed: int, base: Config) -> Config:
    """The comparison's config with the changes of a row, and without rows, which would all be checked again."""
    own = {"seed": seed, "name": f"{base.name}/{slug_of(row.title)}-{seed}"}
    return cli.override(replace(base, rows=[]), own | changes_of(row, seed, base), f"row {row.title}")


def changes_of(row: Row, seed: int, base: Config) -> dict[str, Any]:
    """A row's changes, applied over those of its parent row `of`, whose networks it uses.

    Raises UserError if the parent row does not exist.
    """
    changes: dict[str, Any] = {}
    if row.of is not None:
        parent = next((other for other in base.rows if other.title == row.of), None)
        if parent is None:
            raise UserError(f"rows: {row.title} is of {row.of}, but no row has that title")
        changes = changes_of(parent, seed, base) | {"teacher_of": f"{base.name}/{slug_of(row.of)}-{seed}"}
    return cli.merged(changes, filled(row.changes, seed=seed, name=base.name))


def filled(value: Any, **names: Any) -> Any:
    """Nested mappings with {seed} and {name} in their texts replaced."""
    if isinstance(value, dict):
        return {key: filled(v, **names) for key, v in value.items()}
    return value.format(**names) if isinstance(value, str) else value


@dataclass
class Subject:
    """A trained method: its predictor, the modules that it uses, and the seconds that its stages took."""

    predict: Predictor
    modules: list[nn.Module]
    seconds: dict[str, float]


def subject_of(config: Config, kind: str, trained: Teacher, train: Dataset, compute: Compute) -> Subject:
    """The trained method that a run's config describes."""
    members = config.teacher.members  # the other networks of an ensemble are its reference
    seconds_of_teacher = trained.seconds * members / len(trained.networks)
    if kind == "student":
        model, distilled = student.load_distilled(config, compute, trained)

        def predict(images: torch.Tensor, name: str) -> Prediction:
            return Prediction(model.distribution(outputs_of(model.outputs, images, compute).cpu()))

        seconds = {
            "teacher": seconds_of_teacher,
            "sampling": distilled["sampling_seconds"],
            "student": distilled["seconds"],
        }
        return Subject(predict, [model], seconds)
    networks = [folded(network) for network in trained.networks]  # as a student's network is
    started = time.monotonic()
    predict = teacher_method(config.teacher.method).predictor(networks, train, config, compute)
    return Subject(predict, networks[:members], {"teacher": seconds_of_teacher, "fit": time.monotonic() - started})


def measure(config: Config, row: Row, base: Config) -> dict[str, Any]:
    """All measurements of a trained row. Times are relative to the deterministic network of the `base` config."""
    run, compute = begin(config, "compare")
    trained = teacher.load_teacher(config, compute)
    train, validation = data.load_train(config.data, config.split_seed, config.teacher.train_on_all)
    if validation is None:
        raise UserError("a comparison needs validation images: teacher.train_on_all has to be false")
    trained.require_same_data(train, config)
    subject = subject_of(config, row.kind, trained, train, compute)
    on_test = config.compared_on == "test"
    if on_test:
        sets = data.load_evaluation(config.data, train.classes, config.split_seed)
    else:
        sets = [validation, *shifted_parts(validation, config.seed)]
    said = {dataset.name: subject.predict(dataset.images, dataset.name) for dataset in sets}
    values = {name: scores_of(prediction) for name, prediction in said.items()}
    inside, *outside = sets
    mean, labels = said[inside.name].distribution.mean.double(), inside.labels.numpy()
    right = mean.argmax(1).numpy() == labels
    record = {
        "provenance": provenance(config, compute, {dataset.name: dataset.fingerprint for dataset in sets}),
        "teacher": config.teacher.method,
        "student": config.student.method if row.kind == "student" else None,
        "before": classification(mean.numpy(), labels),
        "seconds": subject.seconds,
        "draws": said[inside.name].distribution.draws,
        "confident": {name: float((score["max_probability"] < 1 - CONFIDENT).mean()) for name, score in values.items()},
        "ood": {d.name: detection(values[inside.name], values[d.name]) for d in outside},
    }
    if all("mutual_information" in score for score in values.values()):
        record["spearman_of_parts"] = {
            name: float(spearmanr(score["mutual_information"], score["expected_entropy"]).statistic)
            for name, score in values.items()
        }
    if found := errors(values[inside.name], right):
        record["errors"] = found
    if on_test:
        chosen = {"by entropy": "predictive_entropy", "by its own score": report.own_score(record)}
        told = {
            f"AUROC {d.name} {by}": (values[inside.name][s], values[d.name][s])
            for d in outside
            for by, s in chosen.items()
        }
        record["resampled"] = resampled(mean.numpy(), labels, told, config.evaluation.bootstrap)
    cache = None
    if compared_with := row.compared_with or (config.teacher.method if row.kind == "student" else None):
        cache = SampleCache(config, run, compute, trained.samplers(compared_with), trained.checksum)
        references = {dataset.name: reference(cache, dataset, compared_with, config.evaluation) for dataset in sets}
        record["agreement"] = {name: theirs.judge(values[name]) for name, theirs in references.items()}
        judges = {name: theirs.judges(said[name].distribution) for name, theirs in references.items()}
        record |= {judge: {name: entry[judge] for name, entry in judges.items()} for judge in judges[inside.name]}
    if on_test and config.evaluation.shifted:
        record["shifts"] = under_shift(subject.predict, inside, cache, config, compared_with)
    if on_test:
        temperature = fit_temperature(
            subject.predict(validation.images, validation.name).distribution.mean, validation.labels
        )
        record |= {
            "temperature": temperature,
            "after": classification(tempered(mean, temperature).numpy(), labels),
            "cost": cost(
                scored(subject.predict),
                scored(baseline(base, len(train.classes), compute)),
                subject.modules,
                inside.images[:256],
            ),
        }
    return record


CONFIDENT = 0.995  # the largest probability above which an image counts as one that the method is certain of


def detection(inside: dict[str, ndarray], outside: dict[str, ndarray]) -> dict[str, dict[str, float]]:
    """How well each score separates `outside` from `inside`."""
    return {name: ood_detection(inside[name], outside[name]) for name in inside}


def errors(scores: dict[str, ndarray], right: ndarray) -> dict[str, dict[str, float]]:
    """How well each score [N] tells wrong answers from right ones; empty if all answers are of one kind."""
    if right.all() or not right.any():
        return {}
    return detection(*({name: score[chosen] for name, score in scores.items()} for chosen in (right, ~right)))


def scores_of(prediction: Prediction) -> dict[str, ndarray]:
    """Every uncertainty score [N] of a method; higher is less sure. A `Delta` has only one kind of entropy.

    Raises ValueError for a score that is not finite.
    """
    measures = measures_of(prediction.distribution)
    given = MEASURES if not isinstance(prediction.distribution, Delta) else ["predictive_entropy"]
    scores = {name: measures[name] for name in given}
    scores["max_probability"] = 1 - prediction.distribution.max_probability.double().numpy()
    scores |= {name: score.double().numpy() for name, score in prediction.scores.items()}
    for name, score in scores.items():
        if not np.isfinite(score).all():
            raise ValueError(f"{name} is not finite for {(~np.isfinite(score)).sum()} of {len(score)} inputs")
    return scores


def scored(predict: Predictor) -> Callable[[torch.Tensor], dict[str, ndarray]]:
    """A function that predicts and computes all uncertainties: some methods compute them only on access."""
    return lambda images: scores_of(predict(images, "cost"))


SHIFTED: dict[tuple, dict[str, dict[int, Dataset]]] = {}  # shared by all rows of this process
COVERED = 0.8  # share of the images without shift that selective prediction answers


def under_shift(
    predict: Predictor, test: Dataset, cache: SampleCache | None, config: Config, method: str | None
) -> dict[str, Any]:
    """Quality, uncertainties and agreement with the teacher under covariate shift: {shift: {severity: entry}}.

    Selective prediction answers where the largest probability is above a threshold, the same for all shifts.
    """
    settings = config.evaluation
    fewer = replace(settings, passes=settings.shifted_passes)
    key = (test.fingerprint, settings.shifted, config.split_seed)
    if key not in SHIFTED:
        SHIFTED[key] = shifted_sets(test, settings.shifted, config.split_seed)
    threshold, record = None, {}
    for kind, by_severity in SHIFTED[key].items():
        record[kind] = {}
        for severity, dataset in by_severity.items():
            prediction = predict(dataset.images, dataset.name)
            mean, labels, scores = (
                prediction.distribution.mean.double().numpy(),
                dataset.labels.numpy(),
                scores_of(prediction),
            )
            right = mean.argmax(1) == labels
            if threshold is None:  # the images without shift come first
                threshold = np.quantile(scores["max_probability"], COVERED)
            answered = scores["max_probability"] <= threshold
            entry = classification(mean, labels) | {
                "means": {name: score.mean() for name, score in scores.items()},
                "coverage": answered.mean(),
                "risk": (~right[answered]).mean() if answered.any() else None,
            }
            if told := errors(scores, right):
                entry["errors"] = {name: found["auroc"] for name, found in told.items()}
            if cache is not None:
                judged = reference(cache, dataset, method, fewer).judge(scores)
                entry["agreement"] = {
                    m: {key: found[key] for key in ("pearson", "equivalent_passes", "scale")}
                    for m, found in judged.items()
                }
            record[kind][severity] = entry
    return record


REFERENCES: dict[tuple, Reference] = {}  # shared by all students of one teacher in this process


def reference(cache: SampleCache, dataset: Dataset, method: str, settings: Evaluation) -> Reference:
    """The reference on a data set, made once in this process."""
    key = (cache.checksum, method, dataset.name, settings.passes, cache.config.seed)
    if key not in REFERENCES:
        fixed_samples = teacher_method(method).fixed_samples
        REFERENCES[key] = Reference(*cache.reference(dataset, settings), fixed_samples, settings.bootstrap, cache.config.seed)
    return REFERENCES[key]


def baseline(base: Config, classes: int, compute: Compute) -> Predictor:
    """The deterministic network that times are compared with."""
    architecture = replace(teacher.architecture(base, classes), conv_dropout=0.0, head_dropout=0.0)
    network = folded(build(architecture).to(compute.device).eval())
    return teacher_method("deterministic").predictor([network], None, base, compute)


def draw_maps(config: Config, folder: Path) -> Figure:
    """Every uncertainty of every method over the plane."""
    train, *_ = data.load_train(config.data, config.split_seed, config.teacher.train_on_all)
    grid = next(
        dataset
        for dataset in data.load_evaluation(config.data, train.classes, config.split_seed)
        if len(dataset.classes) == 0
    )
    scores = {}
    for row in config.rows:
        file = folder / f"{slug_of(row.title)}-{row.seeds[0]}.json"
        if "failed" not in artifact.read_json(file):
            own = config_of(row, row.seeds[0], config)
            compute = choose(own.device, own.dtype)
            subject = subject_of(own, row.kind, teacher.load_teacher(own, compute), train, compute)
            scores[row.title] = scores_of(subject.predict(grid.images, grid.name))
    return plots.maps(scores, train.images.numpy(), train.labels.numpy())


if __name__ == "__main__":
    cli.main(main, __doc__, shown=("rows", "compared_on"))
