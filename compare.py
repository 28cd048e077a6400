"""Compare methods, or training recipes, on the same split, budget and protocol, with several seeds.

    python compare.py --config configs/comparison/cifar10_cpu.yaml    # methods, on test images
    python compare.py --config configs/fidelity.yaml                  # recipes, on validation images and shifts of them
    python -m plots.comparison runs/comparison

Trains and measures each of the config's `rows`, and writes runs/<name>/<row>-<seed>.json, beside the folder of the
row's run (with --results results, which made this repository's results: results/<name>/). Rows whose teachers have the
same settings have one teacher. The same command again skips the rows that are finished with the same settings;
--overwrite starts anew. A failed row is recorded as failed, and tried again next time. The last command makes the
tables and the figures from those files; compare.py also does so at its end.
"""

from configs.start import before_imports

if __name__ == "__main__":
    before_imports(__doc__, shown=("rows", "compared_on"))

import re
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor, nn

import data
import plots
import train_student
import train_teacher
from configs import cli, recipe
from configs.errors import UserError
from configs.schema import Config, Evaluation, Row
from data.corruptions import shifted_sets
from data.dataset import Dataset
from data.shifts import shifted_parts
from methods import student, teacher, teacher_method
from methods.evaluation import (
    Scores,
    after_temperature,
    errors,
    measure,
    reference_on,
    scores_of,
    softmax_predictor,
    student_predictor,
)
from methods.interface import Predictor
from methods.teacher import Teacher
from models.folding import folded
from models.networks import build
from plots import comparison as report
from plots.records import own_score
from plots.style import save
from training import artifact, process_group, script
from training.compute import Compute, choose
from training.run import begin, made_anew, provenance
from uncertainty.agreement import Reference
from uncertainty.cache import SampleCache
from uncertainty.classification import classification, resampled
from uncertainty.speed import cost

COVERED = 0.8  # share of the images without shift that selective prediction answers
SHIFTED_PASSES = 50  # of one half of the reference on shifted images, if the reference has as many


def main(config: Config, overwrite: bool = False) -> None:
    """Run every row with every seed, then make the table."""
    if process_group.world_size() > 1:
        raise UserError("compare.py runs in one process: start it without torchrun")
    if not config.rows:
        raise UserError("rows: this config has none")
    if unknown := set(config.only) - {row.title for row in config.rows}:
        raise UserError(f"only: no row has the title {min(unknown)!r}")
    if config.compared_on == "test" and not config.data.ood:
        raise UserError("data.ood: a comparison on test images needs one set or more")
    folder = Path(config.results or config.runs) / config.name
    chosen = [(place, row) for place, row in enumerate(config.rows, 1) if row.title in (config.only or row.title)]
    todo = [(place, row, seed) for place, row in chosen for seed in row.seeds]
    todo.sort(key=lambda entry: entry[2])  # all rows of one seed before the next seed
    files = [folder / f"{run_name(row, seed)}.json" for _, row, seed in todo]
    if twice := {file for file in files if files.count(file) > 1}:
        raise UserError(
            f"rows: two would be written to {min(twice)}; give them titles that differ in letters or digits"
        )
    run, compute = begin(config, "compare")
    comparison, failed = Comparison(config, compute), 0
    done: dict[str, Config] = {}
    with made_anew([*(config.folder / file.stem for file in files), *files], overwrite):
        run.log(run.begins)
        for (place, row, seed), file in zip(todo, files, strict=True):
            record = {"title": row.title, "place": place, "kind": row.kind, "seed": seed}
            record["compared_on"] = config.compared_on
            try:
                changed = config_of(row, seed, config)
                record["settings"] = plain(changed)
                changed = with_shared_teacher(changed, done.values())
                if finished(file, record["settings"], changed):
                    done[file.stem] = changed
                    continue
                run.log(f"row {place} of {len(config.rows)}: {row.title}, seed {seed}")
                train_teacher.main(changed)
                if row.kind == "student":
                    train_student.main(changed)
                record |= comparison.measured(changed, row)
                done[file.stem] = changed
            except Exception as error:  # any error: the other rows continue, and the table names the failed one
                run.log(f"{row.title}, seed {seed} failed: {error}")
                if not isinstance(error, UserError):
                    traceback.print_exc()
                record["failed"] = f"{type(error).__name__}: {error}"
                failed += 1
                if file.exists() and "failed" not in (there := artifact.read_json(file)):
                    record = there | {"failed_later": record["failed"]}  # rather than replace a result by a failure
            artifact.write_json(file, record)
        if failed == len(todo):
            raise UserError(f"all {failed} rows failed; {run / 'log.txt'} says why")
    report.main(folder, [row.title for row in config.rows])
    if any(source.source == "plane" for source in config.data.ood) and not config.only:
        save(draw_maps(config, done, compute), folder / "maps.png")
    run.log(f"tables are in {folder / 'README.md'}, figures beside it")


def finished(file: Path, settings: dict, config: Config) -> bool:
    """Whether a row's result exists with the same settings, and the folder of its run exists: a fresh clone has only
    the results. Raises UserError if the result is damaged."""
    if not file.exists() or not config.folder.exists():
        return False
    record = artifact.read_json(file)
    return "failed" not in record and record.get("settings") == settings


def plain(config: Config) -> dict:
    """The settings of one row."""
    return {key: value for key, value in asdict(config).items() if key not in ("rows", "only", "results")}


def with_shared_teacher(config: Config, done: Iterable[Config]) -> Config:
    """A row's config; if its teacher is not there yet, with the teacher of the first row that is done with the same
    settings of all networks."""
    if has_teacher(config):
        return config
    same = (of.teacher_of or of.name for of in done if networks(of) == networks(config) and has_teacher(of))
    return replace(config, teacher_of=next(same, config.teacher_of))


def has_teacher(config: Config) -> bool:
    """Whether a row's teacher is there, or the first network of an ensemble."""
    return (config.source / next(iter(teacher.members(config))) / teacher.FILE).exists()


def networks(config: Config) -> tuple:
    """All settings that determine a row's networks."""
    members = {place: teacher.settings(member) for place, member in teacher.members(config).items()}
    return members, config.data.train, config.dtype, config.weights


def run_name(row: Row, seed: int) -> str:
    """A row's title in a form that fits into a file name, and the seed. Raises UserError for a title of other
    characters alone."""
    if not (name := re.sub(r"[^a-z0-9+]+", "-", row.title.lower()).strip("-")):
        raise UserError(f"rows: the title {row.title!r} has none of the letters a to z, and no digit")
    return f"{name}-{seed}"


def config_of(row: Row, seed: int, base: Config) -> Config:
    """The comparison's config with the changes of a row, and without rows, which would all be checked again."""
    changes = {"seed": seed, "name": f"{base.name}/{run_name(row, seed)}"} | changes_of(row, seed, base)
    config = cli.override(replace(base, rows=[]), changes, f"row {row.title}")
    if config.teacher.train_on_all:
        raise UserError("teacher.train_on_all: a comparison needs validation images; set it to false")
    if row.kind == "student" and config.compared_on == "validation" and config.sampling.held_out:
        raise UserError("sampling.held_out: the student would be measured on images that it learns from")
    return config


def changes_of(row: Row, seed: int, base: Config) -> dict:
    """A row's changes, applied over those of its parent row `of`, whose networks it uses.

    Raises UserError if the parent row does not exist.
    """
    changes = {}
    if row.of is not None:
        parent = next((other for other in base.rows if other.title == row.of), None)
        if parent is None:
            raise UserError(f"rows: {row.title} is of {row.of}, but no row has that title")
        changes = changes_of(parent, seed, base) | {"teacher_of": f"{base.name}/{run_name(parent, seed)}"}
    return cli.merged(changes, with_names(row.changes, seed=seed, name=base.name))


def with_names(value: Any, **names: Any) -> Any:
    """Nested mappings with {seed} and {name} in their texts replaced."""
    if isinstance(value, dict):
        return {key: with_names(v, **names) for key, v in value.items()}
    return value.format(**names) if isinstance(value, str) else value


def subject_of(
    config: Config, kind: str, trained: Teacher, train: Dataset, compute: Compute
) -> tuple[Predictor, list[nn.Module], dict[str, float]]:
    """The trained method that a run's config describes: its predictor, the modules that it uses, and the seconds that
    its stages took."""
    members = config.teacher.members  # the other networks of an ensemble are its reference
    seconds = {"teacher": trained.seconds * members / len(trained.networks)}
    if kind == "student":
        model = student.load_distilled(config, compute, trained)
        seconds |= {"sampling": model.about["sampling_seconds"], "student": model.about["seconds"]}
        return student_predictor(model, compute), [model], seconds
    networks = [folded(network) for network in trained.networks]  # as a student's network is
    started = time.monotonic()
    method = teacher_method(config.teacher.method)
    predict = method.predictor(networks, train, config.evaluation, config.seed, compute)
    return predict, networks[:members], seconds | {"fit": time.monotonic() - started}


class Comparison:
    """What the rows of a comparison share: the network that times are compared with, references, and shifted images."""

    def __init__(self, config: Config, compute: Compute):
        self.config = config
        self.compute = compute
        self.references: dict[tuple, Reference] = {}
        self.shifted: dict[tuple, dict[str, dict[int, Dataset]]] = {}

    def measured(self, config: Config, row: Row) -> dict:
        """All measurements of a trained row. Times are relative to a deterministic network of the comparison's
        config."""
        run, compute = begin(config, "compare")
        trained = teacher.load_teacher(config, compute)
        train, validation = data.load_train(config.data, config.split_seed)
        trained.require_same_data(train, config.student.other_images)
        predict, modules, seconds = subject_of(config, row.kind, trained, train, compute)
        on_test, settings = config.compared_on == "test", config.evaluation
        if on_test:
            sets = data.load_evaluation(config.data, train.classes, config.split_seed)
        else:
            sets = [validation, *shifted_parts(validation, config.seed)]
        inside, labels = sets[0], sets[0].labels.numpy()
        predictions = {dataset.name: predict(dataset.images, dataset.name) for dataset in sets}
        scores = {name: scores_of(prediction) for name, prediction in predictions.items()}
        record = {
            "provenance": provenance(config.seed, compute, sets),
            "teacher": config.teacher.method,
            "student": config.student.method if row.kind == "student" else None,
            "seconds": seconds,
            **measure(predictions, labels),
        }
        cache = None
        if compared_with := row.compared_with or (config.teacher.method if row.kind == "student" else None):
            samplers = trained.samplers(compared_with)
            cache = SampleCache(config.source, run, compute, samplers, trained.checksum, config.seed)
            references = {dataset.name: self.reference(cache, dataset, compared_with, settings) for dataset in sets}
            record["agreement"] = {name: reference.agreement(scores[name]) for name, reference in references.items()}
            alike = {name: of.similarities(predictions[name].distribution) for name, of in references.items()}
            record |= {what: {name: alike[name][what] for name in alike} for what in alike[inside.name]}
        if not on_test:
            return record
        mean = predictions[inside.name].distribution.mean.double().numpy()
        chosen = {"by entropy": "predictive_entropy", "by its own score": own_score(record)}
        aurocs = {
            f"AUROC {name} {by}": (scores[inside.name][score], scores[name][score])
            for name in list(scores)[1:]
            for by, score in chosen.items()
        }
        record["resampled"] = resampled(mean, labels, aurocs, settings.bootstrap)
        if settings.shifted:
            record["shifts"] = self.under_shift(predict, inside, cache, compared_with, config)
        one_pass = self.deterministic(train)
        record["cost"] = cost(all_scores(predict), all_scores(one_pass), modules, inside.images[:256])
        return record | after_temperature(predict, predictions[inside.name], labels, validation)

    def reference(self, cache: SampleCache, dataset: Dataset, method: str, settings: Evaluation) -> Reference:
        """The reference on a data set, made once for all students of one teacher."""
        key = (cache.checksum, method, dataset.name, dataset.fingerprint, repr(settings), cache.seed)
        if key not in self.references:
            self.references[key] = reference_on(cache, dataset, method, settings)
        return self.references[key]

    def deterministic(self, train: Dataset) -> Predictor:
        """An untrained network without dropout, of the comparison's config."""
        settings = recipe.for_teacher(self.config.teacher, len(train), max(train.shape[:2]))
        architecture = teacher.architecture(settings, self.config.data, len(train.classes))
        network = build(replace(architecture, conv_dropout=0.0, head_dropout=0.0))
        return softmax_predictor(folded(network.to(self.compute.device).eval()), self.compute)

    def under_shift(
        self,
        predict: Predictor,
        test: Dataset,
        cache: SampleCache | None,
        method: str | None,
        config: Config,
    ) -> dict:
        """Quality, uncertainties and agreement with the teacher under covariate shift: {shift: {severity: entry}}.

        Selective prediction answers where the largest probability is above a threshold, the same for all shifts.
        """
        settings = config.evaluation
        key = (test.fingerprint, settings.shifted, config.split_seed)
        if key not in self.shifted:
            self.shifted[key] = shifted_sets(test, settings.shifted, config.split_seed)
        fewer = replace(settings, passes=min(SHIFTED_PASSES, settings.passes))
        threshold, record = None, {}
        for kind, by_severity in self.shifted[key].items():
            record[kind] = {}
            for severity, dataset in by_severity.items():
                prediction = predict(dataset.images, dataset.name)
                scores = scores_of(prediction)
                if threshold is None:  # the images without shift come first
                    threshold = np.quantile(scores["max_probability"], COVERED)
                mean = prediction.distribution.mean.double().numpy()
                entry = shift_entry(mean, dataset.labels.numpy(), scores, threshold)
                if cache is not None:
                    agreement = self.reference(cache, dataset, method, fewer).agreement(scores)
                    entry["agreement"] = {
                        m: {key: of[key] for key in ("pearson", "equivalent_passes", "scale")}
                        for m, of in agreement.items()
                    }
                record[kind][severity] = entry
        return record


def shift_entry(mean: np.ndarray, labels: np.ndarray, scores: Scores, threshold: float) -> dict:
    """Quality and mean uncertainties on shifted images. risk: the share of errors among those below the threshold."""
    right = mean.argmax(1) == labels
    answered = scores["max_probability"] <= threshold
    entry = classification(mean, labels) | {
        "means": {name: score.mean() for name, score in scores.items()},
        "coverage": answered.mean(),
        "risk": (~right[answered]).mean() if answered.any() else None,
    }
    if of_errors := errors(scores, right):
        entry["errors"] = {name: detected["auroc"] for name, detected in of_errors.items()}
    return entry


def all_scores(predict: Predictor) -> Callable[[Tensor], Scores]:
    """A function that predicts and computes all uncertainties: some methods compute them only on access."""
    return lambda images: scores_of(predict(images, "cost"))


def draw_maps(config: Config, done: dict[str, Config], compute: Compute) -> Figure:
    """Every uncertainty of every method over the plane. done: the configs of the finished rows, by name."""
    train, _ = data.load_train(config.data, config.split_seed)
    sets = data.load_evaluation(config.data, train.classes, config.split_seed)
    grid = next(dataset for dataset in sets if len(dataset.classes) == 0)
    scores = {}
    for row in config.rows:
        if changed := next((done[name] for seed in row.seeds if (name := run_name(row, seed)) in done), None):
            trained = teacher.load_teacher(changed, choose(changed.device, changed.dtype))
            seen, _ = data.load_train(changed.data, changed.split_seed)
            predict, _, _ = subject_of(changed, row.kind, trained, seen, compute)
            scores[row.title] = scores_of(predict(grid.images, grid.name))
    return plots.maps(scores, train.images.numpy(), train.labels.numpy())


if __name__ == "__main__":
    script.main(main)
