"""Measure how well one pass of the student reproduces the teacher's uncertainty, in distribution and out of
distribution.

    python evaluate.py                                                          # configs/digits.yaml
    python evaluate.py --config configs/cifar10_cpu.yaml

Reads runs/<name>/teacher.safetensors and student.safetensors; samples the teacher on the evaluation sets (cached);
writes runs/<name>/metrics.json, table.md, plots/*.png, predictions.csv and, to look at all of it, report.html.
--overwrite samples the evaluation sets anew.
"""

import training  # noqa: F401  # isort: skip  # first: Ctrl-C during the other imports then prints one line
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray
from torch import Tensor

import data
import plots
from configs.schema import Config, Evaluation
from data import humans
from data.dataset import UNLABELLED, Dataset
from methods import student, teacher, teacher_method
from methods.prediction import rows_of, write_csv
from methods.student import Student
from methods.teacher import Teacher
from models.inference import outputs_of
from plots import report
from plots.style import INFORMATION, TRUONG, save
from plots.table import table
from training import artifact, cli, process_group
from training.compute import Compute
from training.run import Run, begin, provenance
from uncertainty.agreement import Reference, rejected, with_humans
from uncertainty.cache import SampleCache
from uncertainty.classification import classification, ood_detection
from uncertainty.distribution import MEASURES, Distribution, entropy, measures_of
from uncertainty.mc_dropout import split_head
from uncertainty.samples import Samples
from uncertainty.speed import compare_speed

MANY = 100  # with more classes, predictions.csv leaves out their probabilities: it would be very large
Uncertainties = dict[str, dict[str, dict[str, ndarray]]]  # {who: {data set: {measure: [N]}}}


@dataclass
class Evaluated:
    """All outputs on one data set."""

    dataset: Dataset
    teacher: Samples  # the first half of its reference
    reference: Reference
    deterministic: Tensor  # the teacher's softmax without dropout [N, C]
    head: Samples | None  # the teacher with dropout in its head alone
    student: Distribution


def main(config: Config, overwrite: bool) -> None:
    """Load the networks, compute their outputs on every data set, and write measures, plots and table."""
    run, compute = begin(config, "evaluate", overwrite)
    trained = teacher.load_teacher(config, compute)
    model, distilled = student.load_distilled(config, compute, trained)
    run.save_config(config)

    # The reference: the teacher is sampled twice on every data set, the in-distribution test set first. The other
    # outputs are cheap.
    cache = SampleCache(config, run, compute, trained.samplers(config.teacher.method), trained.checksum, anew=True)
    sets = data.load_evaluation(config.data, trained.classes, config.split_seed)
    samples = [cache.reference(dataset) for dataset in sets]
    started = time.monotonic()
    evaluated = [outputs(dataset, both, trained, model, config, compute) for dataset, both in zip(sets, samples)]
    if not process_group.is_first():  # it has the outputs of all processes, and does the rest
        return

    # Measures.
    values = uncertainties(evaluated)
    metrics = {"provenance": provenance(config, compute, {dataset.name: dataset.fingerprint for dataset in sets})}
    metrics["provenance"] |= {
        "method": described(config),
        "student_seed": config.student.seed,
        "teacher_data": trained.data,
    }
    metrics |= measure(evaluated, values)
    people = human_entropy(run, config.evaluation, sets[0])
    if people is not None:
        resamples = evaluated[0].reference.resamples
        metrics["humans"] = {
            who: with_humans(people, by_set[sets[0].name], resamples) for who, by_set in values.items()
        }
    metrics["speed"] = compare_speed(cache.samplers[0], model, sets[0].images.to(compute.device), config, compute)
    stages = {"teacher": trained.seconds, "sampling": distilled["sampling_seconds"], "student": distilled["seconds"]}
    metrics["stages_s"] = stages | {"reference": cache.seconds, "evaluate": time.monotonic() - started}
    written = artifact.write_json(run / "metrics.json", metrics)

    # Figures and table.
    figures = draw(evaluated, values, metrics, model.classes, config)
    if people is not None:
        figures["humans"] = plots.humans(people, values["student"][sets[0].name], metrics["humans"])
    losses = {
        "teacher": "cross-entropy, nats",
        "student": f"{config.student.method}: {model.method.loss_name(model.options)}",
    }
    figures["training_curves"] = plots.training_curves(
        {"teacher": trained.history, "student": distilled["history"]}, losses
    )
    text = table(written)
    write(run, text, figures)
    write_report(run, evaluated, model.classes, text)
    run.end()


def outputs(
    dataset: Dataset,
    samples: tuple[list[Samples], ndarray],
    trained: Teacher,
    model: Student,
    config: Config,
    compute: Compute,
) -> Evaluated:
    """The outputs of teacher and student on a data set. samples: both halves of the teacher's, and the mask group of
    each image."""
    halves, group = samples
    one_way = teacher_method(config.teacher.method).one_way
    return Evaluated(
        dataset,
        halves[0],
        Reference(halves, group, one_way, config.evaluation.bootstrap, config.seed),
        outputs_of(trained.network, dataset.images, compute).softmax(1).cpu(),
        head_samples(config, trained, dataset, compute),
        model.distribution(outputs_of(model.outputs, dataset.images, compute).cpu()),
    )


def write(run: Run, text: str, figures: dict[str, Figure]) -> None:
    """Write the table and the plots, and print the table. Plots of an earlier evaluation are deleted."""
    for earlier in (run / "plots").glob("*.png"):
        earlier.unlink(missing_ok=True)
    for name, figure in figures.items():
        save(figure, run / f"plots/{name}.png")
    artifact.write_text(run / "table.md", text + "\n")
    print(f"\n{text}\n")
    run.log(f"wrote {run / 'metrics.json'} and {len(figures)} plots in {run / 'plots'}/")


def write_report(run: Run, evaluated: list[Evaluated], classes: list[str], text: str) -> None:
    """Write predictions.csv, a row for each image, and the report that is made from it; it begins with `text`."""

    def rows() -> Iterator[dict[str, Any]]:
        for e in evaluated:
            both = zip(
                e.dataset.names, e.dataset.labels.tolist(), rows_of(e.student, classes), rows_of(e.teacher, classes)
            )
            for name, label, mine, theirs in both:
                known = label != UNLABELLED
                right = ("yes" if mine["class"] == classes[label] else "no") if known and e is evaluated[0] else ""
                first = {
                    "set": e.dataset.name,
                    "image": name,
                    "label": e.dataset.classes[label] if known else "",
                    "right": right,
                }
                row = first | mine | {f"teacher {column}": value for column, value in theirs.items()}
                yield (
                    row
                    if len(classes) <= MANY
                    else {column: value for column, value in row.items() if "p(" not in column}
                )

    sets = {e.dataset.name: e.dataset.images for e in evaluated}
    write_csv(run / "predictions.csv", rows())
    report.write(
        run / "report.html",
        run / "predictions.csv",
        classes,
        lambda name, places, _: np.stack([sets[name][place].numpy() for place in places]),
        run.folder.name,
        text,
        run / "plots",
    )
    run.log(f"wrote {run / 'predictions.csv'} and, to look at, {run / 'report.html'}")


def described(config: Config) -> str:
    """A short description of the student: its method, its options, and its start if it started from random weights."""
    own = [f"{name} {value}" for name, value in (config.student.options or {}).items()]
    start = ["from random weights"] if config.student.init == "random" else []
    return ", ".join([config.student.method, *own, *start])


def head_samples(config: Config, trained: Teacher, dataset: Dataset, compute: Compute) -> Samples | None:
    """Samples of the teacher with dropout in its head alone, as many as half the reference has; None if the head has no
    dropout."""
    if split_head(trained.network) is None:
        return None
    return (
        teacher_method("head_dropout")
        .predictor(trained.networks, dataset, config, compute)(dataset.images, dataset.name)
        .distribution
    )


def human_entropy(run: Run, settings: Evaluation, dataset: Dataset) -> ndarray | None:
    """The entropy of people's labels for each image, in nats; None if the config names no file, or the file does not
    exist."""
    if settings.human_labels is None:
        return None
    path = Path(settings.human_labels)
    if not path.exists():
        run.log(f"{path}: no such file; nothing is compared with people (docs/use.md says where to get it)")
        return None
    counts = humans.load(path, dataset)
    return entropy(counts / counts.sum(1, keepdim=True)).numpy()


def predictions(inside: Evaluated) -> dict[str, ndarray]:
    """The probabilities [N, C] that each method predicts: the mean of its distribution; for the teacher, of its first
    half."""
    means = {
        "teacher_deterministic": inside.deterministic,
        "teacher": inside.teacher.mean,
        "student": inside.student.mean,
    }
    return {who: mean.double().numpy() for who, mean in means.items()}


def uncertainties(evaluated: list[Evaluated]) -> Uncertainties:
    """Every measure of teacher (its first half) and student."""
    return {
        "teacher": {e.dataset.name: measures_of(e.teacher) for e in evaluated},
        "student": {e.dataset.name: measures_of(e.student) for e in evaluated},
    }


def measure(evaluated: list[Evaluated], values: Uncertainties) -> dict[str, Any]:
    """The parts of metrics.json that are about quality."""
    inside, *outside = evaluated
    labels = inside.dataset.labels.numpy()
    metrics = {who: classification(probs, labels) for who, probs in predictions(inside).items()}
    metrics |= {"agreement": {}, "passes": {}}
    for e in evaluated:
        name, floors = e.dataset.name, e.reference.floors(e.deterministic, e.head)
        judged = e.reference.judge(values["student"][name])
        entries = {m: judged[m] | floors[m] for m in judged}
        metrics["agreement"][name] = (
            {"same_class": e.reference.same_class(e.student.predicted)} | e.reference.judges(e.student) | entries
        )
        metrics["passes"][name] = {
            m: {"passes": curve.passes.tolist(), "pearson": curve.pearson[0].tolist(), "residual": curve.residual}
            for m, curve in e.reference.curves.items()
        }
    metrics["rejected"] = rejected(values["teacher"], values["student"])
    metrics["ood"] = {
        e.dataset.name: {
            who: {m: ood_detection(sets[inside.dataset.name][m], sets[e.dataset.name][m]) for m in MEASURES}
            for who, sets in values.items()
        }
        for e in outside
    }
    return metrics


def draw(
    evaluated: list[Evaluated], values: Uncertainties, metrics: dict[str, Any], classes: list[str], config: Config
) -> dict[str, Figure]:
    """Every figure about quality, by file name."""
    inside, *outside = evaluated
    name, labels = inside.dataset.name, inside.dataset.labels.numpy()
    probs = predictions(inside)
    theirs, mine = values["teacher"], values["student"]
    confidence = {who: p.max(1) for who, p in probs.items()}
    correct = {who: p.argmax(1) == labels for who, p in probs.items()}
    figures = {
        "teacher_against_student": plots.teacher_against_student(theirs, mine, metrics["agreement"], TRUONG),
        "teacher_against_student_information": plots.teacher_against_student(
            theirs, mine, metrics["agreement"], INFORMATION
        ),
        "in_distribution": plots.histograms(theirs, mine, [name]),
        "correlation_by_passes": plots.correlation_by_passes(metrics["passes"], metrics["agreement"]),
        "scale": plots.scale(theirs, mine, metrics["agreement"]),
        "reliability": plots.reliability(confidence, correct, name),
        "risk_coverage": plots.risk_coverage(confidence, correct, name),
    }
    if outside:
        figures["roc"] = plots.roc(theirs, mine, metrics["ood"])
        figures["out_of_distribution"] = plots.histograms(theirs, mine, [e.dataset.name for e in outside], behind=name)
    for e, source in zip(evaluated, [config.data.train, *config.data.ood]):
        if source.source != "noise":  # images of noise show nothing
            of, images = e.dataset.name, e.dataset.images.numpy()
            figures[f"extremes_{of}"] = plots.extremes(
                images, theirs[of], mine[of], e.dataset.names, captions(e, classes), of
            )
    return figures


def captions(e: Evaluated, classes: list[str]) -> list[str]:
    """A line for each image: its true class, where that is known, and the class that the student predicts."""
    pairs = zip(e.dataset.labels.tolist(), e.student.predicted.tolist())
    return [f"{e.dataset.classes[label] if label != UNLABELLED else '?'} → {classes[p]}" for label, p in pairs]


if __name__ == "__main__":
    cli.main(main, __doc__, shown=("data", "evaluation"))
