"""The parts of README.md and of docs/ that are made from results and settings:

    python -m plots.pages

A part is the text between `<!-- name -->` and `<!-- end -->`, which is replaced.
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from configs.cli import settings_of
from configs.schema import Config
from methods import options_help
from plots import about, comparison, records
from plots.cells import markdown
from plots.table import equivalents, short_students, students, variants
from training import artifact

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
STUDENTS = {  # in the tables' order: the end of a run's name, and the name in the tables
    "_truong2019": "the student of Truong 2019, of this teacher",
    "_truong2019_from_teacher": "the same, from the teacher's weights",
    "": "softplus-Dirichlet, ours",
    "_gaussian": "logit Gaussian, ours",
}
# The same, of students that differ in one thing.
SEEDS = {"": "seed 0", "_seed1": "seed 1", "_seed2": "seed 2"}
SPLIT = {"_16_passes": "16 passes", "_frozen": "the perceptron alone"}
BOUNDS = {"_seed2": "today's recipe", **SPLIT, "_rate_3e-6": "rate 3e-6"}


def beside(name: str, kinds: dict[str, str] = STUDENTS) -> dict[str, dict]:
    """The metrics of all students of the run `name`'s teacher that are there."""
    files = {title: RESULTS / f"{name}{kind}" / "metrics.json" for kind, title in kinds.items()}
    return {title: artifact.read_json(file) for title, file in files.items() if file.exists()}


def rows_of(name: str) -> list[dict]:
    """Every finished row of a comparison."""
    return records.every(records.finished(records.load(RESULTS / name)))


def card(name: str) -> str:
    """What a folder's networks are, and how good."""
    metrics = artifact.read_json(RESULTS / name / "metrics.json")
    passes = {
        "teacher": "50 to 100 passes with dropout",
        "student": f"one pass, {metrics['provenance']['method']}",
    }
    rows = []
    for who, kind in passes.items():
        _, about = artifact.load(RESULTS / name / f"{who}.safetensors", who)
        scores = [f"{metrics[who][score]:.3f}" for score in ("accuracy", "nll", "ece")]
        network = "{network}, width {width}".format(**about["architecture"])
        rows.append([f"`{who}.safetensors`", f"{network}: {kind}", *scores])
    return markdown(["file", "network", "accuracy on the test images", "NLL", "ECE"], rows)


def settings_page() -> str:
    """Every setting, its default and what it means."""
    groups = {}
    for key, field in settings_of(Config):
        value = field.get_default(call_default_factory=True)
        default = value if isinstance(value, str) else json.dumps(value, default=asdict)
        row = [f"`{key}`", f"`{default}`", field.description]
        groups.setdefault(key.rpartition(".")[0] or "The run, and comparisons", []).append(row)
    head = ["setting", "default", "meaning"]
    return "\n\n".join(f"## {group}\n\n{markdown(head, rows)}" for group, rows in groups.items())


PARTS: dict[str, Callable[[], str]] = {
    "students": lambda: short_students(beside("cifar10_cpu")),
    "all students": lambda: students(beside("cifar10_cpu")),
    "seeds": lambda: variants(beside("cifar10_cpu", SEEDS)),
    "full-width bounds": lambda: variants(beside("cifar10_cpu", BOUNDS)),
    "half": lambda: students(beside("cifar10_half")),
    "plain": lambda: students(beside("cifar10_cpu_plain")),
    "equivalents": lambda: equivalents(artifact.read_json(RESULTS / "cifar10_cpu" / "metrics.json")),
    "vgg16": lambda: students(beside("cifar10_vgg16")),
    "vgg16 half": lambda: students(beside("cifar10_vgg16_half")),
    "vgg16 bounds": lambda: variants(beside("cifar10_vgg16_half", {"": "today's recipe", **SPLIT})),
    "cifar100": lambda: students(beside("cifar100_cpu")),
    "digits": lambda: students(beside("digits")),
    "teachers": lambda: comparison.teachers(rows_of("teacher_rates")),
    "recipes": lambda: comparison.recipes(rows_of("fidelity")),
    "bounds": lambda: comparison.recipes(rows_of("student_bounds")),
    "full-width trials": lambda: comparison.recipes([row for row in rows_of("tuning_full") if "agreement" in row]),
    "seen": lambda: comparison.recipes(rows_of("seen_images"), "test images, on both other sets"),
    "noise": lambda: comparison.under_noise(rows_of("noise")),
    "methods": lambda: comparison.short(records.load(RESULTS / "comparison")),
    "similar": lambda: comparison.similar(records.load(RESULTS / "comparison")),
    "kept": lambda: comparison.kept(records.load(RESULTS / "comparison")),
    "ensemble students": lambda: comparison.kept(records.load(RESULTS / "ensemble_student")),
    "settings": settings_page,
    "card": lambda: card("cifar10_cpu"),
    "plots": about.page,
    "options": lambda: f"```\n{options_help()}\n```",
}
PAGES = ("README.md", "docs/results.md", "docs/configs.md", "docs/plots.md", "results/cifar10_cpu/README.md")


def made(text: str) -> str:
    """A page with its parts made anew. Raises KeyError for an unknown part."""
    return re.sub(
        r"<!-- (?!end)(.+?) -->\n.*?<!-- end -->",
        lambda m: f"<!-- {m[1]} -->\n\n{PARTS[m[1]]()}\n\n<!-- end -->",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    for page in PAGES:
        path = ROOT / page
        path.write_text(made(path.read_text()))
