"""Measure how well one pass of the student reproduces the teacher's uncertainty, in distribution and out of
distribution.

    python evaluate.py                                                          # configs/digits.yaml
    python evaluate.py --config configs/cifar10_cpu.yaml

Reads runs/<name>/teacher.safetensors and student.safetensors; samples the teacher on the evaluation sets (cached in
reference/); writes runs/<name>/metrics.json, table.md, plots/*.png, predictions.csv and, to look at all of it,
report.html. The same command again measures anew from the cached samples; other settings of the evaluation need
--overwrite, which samples the evaluation sets anew.
"""

from configs.start import before_imports

if __name__ == "__main__":
    before_imports(__doc__, shown=("data", "evaluation"))

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray

import data
import plots
from configs.schema import Config
from data import humans
from data.dataset import UNLABELLED, Dataset
from methods import evaluation, student, teacher, teacher_method
from methods.interface import Prediction
from methods.prediction import rows_of, write_csv
from methods.student import Student
from methods.teacher import Teacher
from plots import report
from plots.style import INFORMATION, TRUONG, save
from plots.table import Part, front, parts, table
from training import artifact, process_group, script
from training.compute import Compute
from training.run import Run, begin, made_anew, provenance, require_same
from uncertainty.agreement import Reference, correlations, rejected
from uncertainty.cache import SampleCache
from uncertainty.classification import chance_warning
from uncertainty.delta import Delta
from uncertainty.distribution import Values, entropy, measures_of
from uncertainty.mc_dropout import split_head
from uncertainty.samples import Samples
from uncertainty.speed import compare_speed

DECIDE = (1, 2, 4, 8, 16, 32, 64)  # passes of the teacher, besides all
MANY = 100  # with more classes, predictions.csv leaves out their probabilities: it would be very large
Predictions = dict[str, dict[str, Prediction]]  # {who: {data set: prediction}}
Uncertainties = dict[str, dict[str, Values]]  # {who: {data set: {measure: [N]}}}


def main(config: Config, overwrite: bool = False) -> None:
    """Load the networks and evaluate them."""
    run, compute = begin(config, "evaluate")
    trained = teacher.load_teacher(config, compute)
    model = student.load_distilled(config, compute, trained)
    config = replace(teacher.as_trained(config), student=model.settings)
    file, settings = run / "metrics.json", settings_of(config)
    own = [] if config.teacher_of else [run / "reference"]  # another run's has other students
    with made_anew([*own, file], overwrite):
        if file.exists():  # one of an earlier version has no settings
            there = artifact.read_json(file)["provenance"].get("settings", settings)
            require_same(file, there, settings, config.folder)
        run.log(run.begins)
        run.save_config(config)
        evaluate(trained, model, config, compute, run)


def settings_of(config: Config) -> dict:
    """All settings that determine what is measured of the networks."""
    data = {"ood": asdict(config.data)["ood"], "max_ood": config.data.max_ood}
    return {"evaluation": asdict(config.evaluation), "data": data}


def evaluate(trained: Teacher, model: Student, config: Config, compute: Compute, run: Run) -> None:
    """Compute all outputs on every data set, and write measures, plots and table."""
    # The reference: the teacher is sampled twice on every data set, the in-distribution test set first.
    settings, method = config.evaluation, config.teacher.method
    cache = SampleCache(config.source, run, compute, trained.samplers(method), trained.checksum, config.seed)
    sets = data.load_evaluation(config.data, trained.classes, config.split_seed)
    references = {dataset.name: evaluation.reference_on(cache, dataset, method, settings) for dataset in sets}

    # The other outputs are cheap.
    started = time.monotonic()
    predictors = {
        "teacher_deterministic": evaluation.softmax_predictor(trained.network, compute),
        "student": evaluation.student_predictor(model, compute),
    }
    if split_head(trained.network) is not None:
        last_layer = teacher_method("last_layer_dropout")
        predictors["last_layer"] = last_layer.predictor(trained.networks, None, settings, config.seed, compute)
    predictions: Predictions = {"teacher": {name: Prediction(of.halves[0]) for name, of in references.items()}}
    for who, predict in predictors.items():
        predictions[who] = {dataset.name: predict(dataset.images, dataset.name) for dataset in sets}
    if not process_group.is_first():  # it has the outputs of all processes, and does the rest
        return

    # Measures.
    inside = sets[0]
    values: Uncertainties = {
        who: {name: measures_of(prediction.distribution) for name, prediction in predictions[who].items()}
        for who in ("teacher", "student")
    }
    origin = provenance(config.seed, compute, sets)
    origin |= {"method": described(config), "student_seed": config.student.seed, "teacher_data": trained.data}
    origin["settings"] = settings_of(config)
    metrics = {"provenance": origin} | measure(predictions, references, values, inside.labels.numpy())
    people = human_entropy(run, settings.human_labels, inside)
    if people is not None:
        resamples = references[inside.name].resamples
        metrics["humans"] = {
            who: {name: correlations(resamples, x, [people]) for name, x in by_set[inside.name].items()}
            for who, by_set in values.items()
        }
    metrics["speed"] = compare_speed(
        cache.samplers[0], model, inside.images.to(compute.device), settings, config.seed, compute
    )
    stages = {
        "teacher": trained.seconds,
        "sampling": model.about["sampling_seconds"],
        "student": model.about["seconds"],
    }
    metrics["stages_s"] = stages | {"reference": cache.seconds, "evaluate": time.monotonic() - started}

    # Figures, table and report.
    figures = figures_of(sets, predictions, values, metrics, model.classes, config)
    if people is not None:
        figures["humans"] = plots.humans(people, values["student"][inside.name], metrics["humans"])
    losses = {"teacher": "cross-entropy, nats", "student": f"loss: {model.method.loss_name}"}
    histories = {"teacher": trained.history, "student": model.about["history"]}
    figures["training_curves"] = plots.training_curves(histories, losses)
    for earlier in (run / "plots").glob("*.png"):
        earlier.unlink(missing_ok=True)
    for name, figure in figures.items():
        save(figure, run / f"plots/{name}.png", settings.passes)
    written = artifact.without_nan(metrics)
    first = front(written)
    artifact.write_text(run / "table.md", table(written) + "\n")
    write_report(run, sets, predictions, model.classes, [first, *parts(written)])
    student.keep_thresholds(run.folder, values["student"][inside.name])
    artifact.write_json(run / "metrics.json", written)
    print(f"\n{first.plain()}\n")
    run.log(f"open {run / 'report.html'} in a browser; all tables: {run / 'table.md'}, all numbers: metrics.json")


def measure(predictions: Predictions, references: dict[str, Reference], values: Uncertainties, labels: ndarray) -> dict:
    """The parts of metrics.json that are about quality. labels: of the first data set."""
    records = {
        who: evaluation.measure(predictions[who], labels) for who in ("teacher_deterministic", "teacher", "student")
    }
    metrics = {who: record["before"] for who, record in records.items()} | {"agreement": {}, "passes": {}}
    for name, reference in references.items():
        softmax, student = (predictions[who][name].distribution for who in ("teacher_deterministic", "student"))
        last_layer = predictions["last_layer"][name].distribution if "last_layer" in predictions else None
        entries, baselines = reference.agreement(values["student"][name]), reference.baselines(softmax.mean, last_layer)
        beyond = reference.beyond(values["student"][name], softmax.mean)
        metrics["agreement"][name] = {
            "same_class": reference.same_class(student.predicted),
            **reference.similarities(student),
            **{m: entry | baselines[m] | {"beyond_softmax": beyond[m]} for m, entry in entries.items()},
            "by_confidence": reference.by_confidence(values["student"][name], softmax.mean),
        }
        metrics["passes"][name] = {
            m: {"passes": curve.passes.tolist(), "pearson": curve.pearson[0].tolist(), "residual": curve.residual}
            for m, curve in reference.curves.items()
        }
    everything = next(iter(references.values())).passes
    metrics["by_passes"] = {
        str(count): decisions(evaluation.measure(of_passes(predictions["teacher"], count), labels))
        for count in [*(n for n in DECIDE if n < everything), everything]
    } | {who: decisions(record) for who, record in records.items() if who != "teacher"}
    teacher_scores = metrics["teacher"]
    metrics["warning"] = chance_warning(teacher_scores["accuracy"], teacher_scores["nll"], labels)
    metrics["rejected"] = rejected(values)
    metrics["ood"] = {name: {who: records[who]["ood"][name] for who in values} for name in list(references)[1:]}
    return metrics


def of_passes(teacher: dict[str, Prediction], count: int) -> dict[str, Prediction]:
    """The predictions of the first `count` passes alone."""
    few = {name: of.distribution.log_probs[:, :count] for name, of in teacher.items()}
    return {name: Prediction(Delta(x[:, 0]) if count == 1 else Samples(x)) for name, x in few.items()}


def decisions(record: dict) -> dict:
    """What a decision needs of `evaluation.measure`: NLL, and each score's AUROC of errors and of OOD images."""
    aurocs = {"errors": record.get("errors", {}), **record["ood"]}
    return {"nll": record["before"]["nll"]} | {
        what: {score: of["auroc"] for score, of in by_score.items()} for what, by_score in aurocs.items()
    }


def described(config: Config) -> str:
    """A short description of the student: its method, its options, and its start if it started from random weights."""
    options = [f"{name} {value}" for name, value in (config.student.options or {}).items()]
    start = ["from random weights"] if config.student.init == "random" else []
    return ", ".join([config.student.method, *options, *start])


def human_entropy(run: Run, file: str | None, dataset: Dataset) -> ndarray | None:
    """The entropy of people's labels for each image, in nats; None if the config names no file, or it does not
    exist."""
    if file is None:
        return None
    if not Path(file).exists():
        run.log(f"{file}: no such file; nothing is compared with people (docs/use.md says where to get it)")
        return None
    counts = humans.load(Path(file), dataset)
    return entropy(counts / counts.sum(1, keepdim=True)).numpy()


def figures_of(
    sets: list[Dataset],
    predictions: Predictions,
    values: Uncertainties,
    metrics: dict,
    classes: list[str],
    config: Config,
) -> dict[str, Figure]:
    """Every figure about quality, by file name."""
    inside, *outside = (dataset.name for dataset in sets)
    labels = sets[0].labels.numpy()
    whose = ("teacher_deterministic", "teacher", "student")
    probs = {who: predictions[who][inside].distribution.mean.double().numpy() for who in whose}
    confidence = {who: p.max(1) for who, p in probs.items()}
    correct = {who: p.argmax(1) == labels for who, p in probs.items()}
    teacher, student = values["teacher"], values["student"]
    agreement = metrics["agreement"]
    figures = {
        "teacher_against_student": plots.teacher_against_student(teacher, student, agreement, TRUONG),
        "teacher_against_student_information": plots.teacher_against_student(teacher, student, agreement, INFORMATION),
        "in_distribution": plots.histograms(teacher, student, [inside]),
        "correlation_by_passes": plots.correlation_by_passes(metrics["passes"], agreement),
        "decisions_by_passes": plots.decisions_by_passes(metrics["by_passes"], inside),
        "scale": plots.scale(teacher, student, agreement),
        "reliability": plots.reliability(confidence, correct, inside),
        "risk_coverage": plots.risk_coverage(confidence, correct, inside),
    }
    if outside:
        figures["roc"] = plots.roc(teacher, student, metrics["ood"])
        figures["out_of_distribution"] = plots.histograms(teacher, student, outside, behind=inside)
    for dataset, source in zip(sets, [config.data.train, *config.data.ood], strict=True):
        if source.source != "noise" and dataset.shape[-1] in (1, 3):  # noise and vectors show nothing
            name, images = dataset.name, dataset.images.numpy()
            predicted = predictions["student"][name].distribution.predicted.tolist()
            true = [dataset.classes[i] if i != UNLABELLED else "?" for i in dataset.labels.tolist()]
            figures[f"extremes_{name}"] = plots.extremes(
                images, teacher[name], student[name], dataset.names, true, [classes[c] for c in predicted], name
            )
    return figures


def write_report(
    run: Run, sets: list[Dataset], predictions: Predictions, classes: list[str], results: list[Part]
) -> None:
    """Write predictions.csv, a row for each image, and the report that is made from it; it has `results`, too."""

    def rows() -> Iterator[dict]:
        for dataset in sets:
            both = (rows_of(predictions[who][dataset.name].distribution, classes) for who in ("student", "teacher"))
            for name, label, student_row, teacher_row in zip(
                dataset.names, dataset.labels.tolist(), *both, strict=True
            ):
                known = label != UNLABELLED
                judged = known and dataset is sets[0]
                row = {
                    "set": dataset.name,
                    "image": name,
                    "label": dataset.classes[label] if known else "",
                    "right": ("yes" if student_row["class"] == classes[label] else "no") if judged else "",
                    **student_row,
                    **{f"teacher {column}": value for column, value in teacher_row.items()},
                }
                yield row if len(classes) <= MANY else {key: value for key, value in row.items() if "p(" not in key}

    images = {dataset.name: dataset.images for dataset in sets}
    write_csv(run / "predictions.csv", rows())
    report.write(
        run / "report.html",
        run / "predictions.csv",
        classes,
        lambda name, places, _: np.stack([images[name][place].numpy() for place in places]),
        f"{run.folder.name}: what the networks are sure of",
        results,
        run / "plots",
    )


if __name__ == "__main__":
    script.main(main)
