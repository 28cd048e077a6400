"""The tables of an evaluation, made from its metrics.json:

    python -m plots.table results/cifar10_cpu/metrics.json

and tables of several students of one teacher.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from plots import cells
from plots.cells import Columns, Rows, average, markdown, nested, number, single, values
from plots.decisions import passes_that_decide
from plots.style import INFORMATION, MEASURE_NAMES, NAMES, TRUONG, numbered, passes, plain_name

SCORES = {
    "accuracy": "accuracy",
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE",
    "misclassification_auroc": "error AUROC",
    "aurc": "AURC",
}
ALL = (*TRUONG, *INFORMATION)  # the measures of the tables of several students
FRONT = ("total_variance", "predictive_entropy")  # of the short one
REPORTED = ("0.6", "", "0.4", "")  # correlations in distribution and out of it (truongbuu 2019)
SIMILARITIES = {
    "energy_distance/student": "energy distance",
    "energy_distance/teacher": "of other T passes",
    "energy_distance/point": "of their mean alone",
    "covariance/student": "RV of covariances",
    "covariance/teacher": "of other T passes",
    "variation_ratio/student": "Pearson of variation ratios",
    "variation_ratio/teacher": "of other T passes",
    "log_density/student": "log density, nats",
}

MEANINGS = {
    "Pearson": "correlation of the student's uncertainty with the teacher's, over the images",
    "equivalent passes": "the number of the teacher's passes that agree as well with an independent reference",
    "beyond one softmax": "the same, for what one softmax of the teacher does not say",
    "noise ceiling": "what a perfect student would reach against this reference",
    "baseline": "what one softmax of the teacher without dropout reaches, at no cost",
    "last layer": "what passes with dropout in the classifier alone reach",
    "split halves": "split-half reliability, the correlation of the reference's two halves with each other",
    "scale": "the student's mean over the teacher's",
}
ENERGY = "energy_distance/equivalent_passes"
ALIKE = {
    "energy distance": "between the distributions of class probabilities, 0 if they are equal",
    "RV": "1 if the probabilities of the classes vary in the same directions",
    "variation ratio": "the share of samples that vote for another class than most",
    "log density": "the mean log likelihood of the teacher's samples under the student",
}
SPEED = """Speed, images a second at batch 256: teacher with {teacher_passes} passes {teacher_images_per_s:.0f}, \
student {student_images_per_s:.0f}: {ratio:.0f} times faster ({ratio_batch1:.0f} at batch 1)."""


def with_interval(entries: list[dict], path: str, mark: str = "") -> str:
    """A correlation, between marks, and its interval."""
    interval = "-".join(map(number, *values(entries, f"{path}_ci"))) if values(entries, path) else "-"
    return f"{mark}{single(entries, path)}{mark} ({interval})"


def passes_cell(entries: list[dict]) -> str:
    """Equivalent passes and their interval; the cell says if the student is below a baseline. A dash if they are not
    defined."""
    entry = next(iter(entries), {"equivalent_passes": None})
    if entry["equivalent_passes"] is None:
        return "-"
    low, high = entry["equivalent_passes_ci"]
    text = f"{passes(entry)} ({low:.0f}{' or more' if entry['censored'] else f'-{high:.0f}'})"
    baselines = values(entries, "baseline_pearson") + values(entries, "last_layer_pearson")
    return f"{text}, **below a baseline**" if baselines and entry["pearson"] <= max(baselines) else text


def passes_at(entries: list[dict], path: str) -> str:
    """Equivalent passes of what stands at a path."""
    return passes_cell(values(entries, path))


def detection(entries: list[dict]) -> str:
    """The student's and the teacher's AUROC of a data set, by predictive entropy; a dash if there is none."""
    student, teacher = (average(entries, f"ood/{who}/predictive_entropy/auroc") for who in ("student", "teacher"))
    return "-" if student == "-" else f"{student} ({teacher})"


def by_column(entries: list[dict], cell: Callable[..., str], *at: object) -> str:
    """What the function that a column names makes of the entries."""
    return cell(entries, *at)


AGREEMENT = [  # the columns: name, function that makes the cell, its arguments
    ("Pearson (95%)", with_interval, "pearson", "**"),
    ("equivalent passes (95%)", passes_cell),
    ("beyond one softmax (95%)", passes_at, "beyond_softmax"),
    ("noise ceiling", single, "noise_ceiling"),
    ("baseline", single, "baseline_pearson"),
    ("its passes", passes_at, "baseline"),
    ("last layer", single, "last_layer_pearson"),
    ("split halves", single, "split_half_pearson"),
    ("Spearman", single, "spearman"),
    ("scale", average, "scale", 2),
]


FRONT_COLUMNS = [  # of the table that is printed: six with the data sets
    ("total variance", single, "agreement/total_variance/pearson"),
    ("passes", passes_at, "agreement/total_variance"),
    ("predictive entropy", single, "agreement/predictive_entropy/pearson"),
    ("passes", passes_at, "agreement/predictive_entropy"),
    ("AUROC (teacher)", detection),
]
FRONT_MEANINGS = {
    "total variance": "correlation of student and teacher over the images; the same for the predictive entropy",
    "passes": "the number of the teacher's passes that agree as well (95% interval)",
    "AUROC": "how well the student's (the teacher's) predictive entropy tells the images from the first set",
}


@dataclass
class Part:
    """A part of the results: a text, or a table with the meanings of its columns."""

    text: str = ""
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    meanings: dict[str, str] = field(default_factory=dict)

    def numbered(self, count: int) -> "Part":
        """The part with a number in place of the T of `T passes`."""
        header, *rows = ([numbered(cell, count) for cell in line] for line in (self.header, *self.rows))
        return replace(self, header=header, rows=rows)

    def plain(self) -> str:
        """The part for a terminal, in columns."""
        lines = [[cell.replace("**", "") for cell in line] for line in (self.header, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rows = ["   ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        meanings = [f"{column}: {meaning}." for column, meaning in self.meanings.items()]
        return "\n".join([self.text.replace("**", ""), "", *rows, "", *meanings])

    def markdown(self) -> str:
        """The part in Markdown."""
        meanings = "\n".join(f"- *{column}*: {meaning}." for column, meaning in self.meanings.items())
        return "\n\n".join(filter(None, [self.text, markdown(self.header, self.rows), meanings]))


def table(metrics: dict) -> str:
    """metrics.json in Markdown."""
    return "\n\n".join(part.markdown() for part in (Part(sentences(metrics)), *parts(metrics)))


def front(metrics: dict) -> Part:
    """What metrics.json says first: a few sentences, and a table with a row for each data set."""
    of_sets = {name: {"agreement": of, "ood": metrics["ood"].get(name)} for name, of in metrics["agreement"].items()}
    rows = (([name], [of]) for name, of in of_sets.items())
    shown = part("data set", FRONT_COLUMNS, rows, by_column, FRONT_MEANINGS)
    return replace(shown, text=sentences(metrics))


def parts(metrics: dict) -> list[Part]:
    """The results of metrics.json, without the sentences: tables of predictions, agreement, OOD detection and more."""
    agreement = metrics["agreement"]
    inside = next(iter(agreement))
    scored = [([NAMES[who]], [metrics[who]]) for who in NAMES]
    agreed = [([f"{name}: {MEASURE_NAMES[m]}"], [of[m]]) for name, of in agreement.items() for m in MEASURE_NAMES]

    def rows(path: str) -> Rows:
        return [([": ".join(keys)], found) for keys, found in nested([metrics], path)]

    found = [
        part(inside, [(name, score) for score, name in SCORES.items()], scored),
        part("teacher against student", AGREEMENT, agreed, by_column, MEANINGS),
        part(f"AUROC against {inside}", [(plain_name(m), f"{m}/auroc") for m in MEASURE_NAMES], rows("ood/*/*")),
        part(
            "student's class probabilities against T passes of the teacher",
            [*((name, path) for path, name in SIMILARITIES.items()), ("equivalent passes by energy distance", ENERGY)],
            rows("agreement/*"),
            meanings=ALIKE,
        ),
        part(
            "equivalent passes of images by one softmax's largest probability",
            [("images", average, "images", 0), *((plain_name(m), passes_at, m) for m in FRONT)],
            rows("agreement/*/by_confidence/*"),
            by_column,
        ),
        part(
            f"rejected where the teacher rejects 5% of {inside}",
            [(plain_name(m), m) for m in MEASURE_NAMES],
            rows("rejected/*/*"),
            lambda of, measure: f"{100 * of[0][measure]:.1f}%",
        ),
        part(
            "Spearman with the entropy of people's labels",
            [(name, f"{m}/spearman") for m, name in MEASURE_NAMES.items()],
            rows("humans/*"),
            with_interval,
        ),
    ]
    count = agreement[inside]["total_variance"]["reference_passes"]
    return [of.numbered(count) for of in found if of.header[1:]]  # results of earlier versions lack some


def part(
    first: str,
    columns: Columns,
    rows: Rows,
    cell: Callable[..., str] = single,
    meanings: dict[str, str] | None = None,
) -> Part:
    """A table whose first column is called `first`, without columns in which nothing stands."""
    header, lines = cells.table([first], columns, rows, cell)
    kept = [i for i in range(len(header)) if not i or any(line[i] != "-" for line in lines)]
    shown = " ".join(header[i] for i in kept)
    meanings = {name: meaning for name, meaning in (meanings or {}).items() if name in shown}
    return Part("", [header[i] for i in kept], [[line[i] for i in kept] for line in lines], meanings)


def sentences(metrics: dict) -> str:
    """The main results, in words."""
    inside, *outside = agreement = metrics["agreement"]
    worth = [f"{passes_cell([of['total_variance']])} on {name}" for name, of in agreement.items()]
    student, teacher = (
        [number(metrics["ood"][name][who]["predictive_entropy"]["auroc"]) for name in outside]
        for who in ("student", "teacher")
    )
    lines = [
        "One pass of the student agrees with the teacher's total variance as well as some passes of the teacher do: "
        f"{', '.join(worth)}.",
        f"Its predictive entropy tells other images from {inside}: AUROC "
        f"{', '.join(map(' '.join, zip(outside, student)))} (teacher: {', '.join(teacher)}).",
        "Its accuracy is {student[accuracy]:.3f}, the teacher's {teacher[accuracy]:.3f}.".format(**metrics),
    ]
    lines = lines if outside else lines[::2]
    if warning := metrics.get("warning"):
        lines.insert(0, f"**Warning: {warning}.**")
    if enough := passes_that_decide(metrics.get("by_passes", {})):
        needed = [f"{count} for {what}" for what, count in enough.items()]
        lines.append(f"To decide as well as all passes do (AUROC, to 0.005), the teacher needs {', '.join(needed)}.")
    return "\n".join([*lines, SPEED.format(**metrics["speed"])])


def students(runs: dict[str, dict]) -> str:
    """Markdown: for each data set the baseline, and each student's Pearson correlation, equivalent passes and scale.

    runs: {name: metrics}, all of one teacher.
    """
    lines = []
    for dataset, baseline in next(iter(runs.values()))["agreement"].items():
        softmax = [of_softmax(baseline[m]) for m in ALL]
        lines.append([f"**{dataset}**: baseline, one softmax", *softmax])
        lines += [[name, *(student(run, dataset, m, "{}: **{}**, ×{:.2f}") for m in ALL)] for name, run in runs.items()]
    return markdown(["", *(MEASURE_NAMES[measure] for measure in ALL)], lines)


def equivalents(metrics: dict) -> str:
    """Markdown: what the student's one pass is worth for each data set and two measures: of all images, beyond one
    softmax, and of the images on which one softmax is more and less confident."""
    agreement = metrics["agreement"]
    levels = next(iter(agreement.values()))["by_confidence"]
    columns = [
        *(column for column in AGREEMENT if column[0] not in ("baseline", "last layer", "Spearman", "scale")),
        *((f"confidence {level.replace('-', ' to ')}", passes_at, f"by_confidence/{level}") for level in levels),
        ("by energy distance", average, "energy", 0),
    ]
    rows = (
        (
            [f"{name}: {plain_name(measure)}"],
            [
                of[measure]
                | {"by_confidence": {level: each[measure] for level, each in of["by_confidence"].items()}}
                | {"energy": of["energy_distance"]["equivalent_passes"]}
            ],
        )
        for name, of in agreement.items()
        for measure in FRONT
    )
    return part("", columns, rows, by_column).markdown()


def variants(runs: dict[str, dict]) -> str:
    """Markdown: the equivalent passes of students of one teacher that differ in one thing, for each data set.

    runs: {name: metrics}.
    """
    lines = [
        [dataset, *(", ".join(passes(run["agreement"][dataset][m]) for run in runs.values()) for m in ALL)]
        for dataset in next(iter(runs.values()))["agreement"]
    ]
    header = f"equivalent passes: {', '.join(runs)}"
    return markdown([header, *(MEASURE_NAMES[measure] for measure in ALL)], lines)


def short_students(runs: dict[str, dict]) -> str:
    """Markdown: correlation and equivalent passes (of all, and beyond one softmax) of two measures, on the
    in-distribution set and on the first OOD set; above them, what Truong 2019 reports.

    runs: {name: metrics}, all of one teacher.
    """
    first = next(iter(runs.values()))["agreement"]
    columns = [(dataset, measure) for dataset in list(first)[:2] for measure in FRONT]
    lines = [
        ["reported by Truong 2019, of his own teacher (he does not name the measure)", *REPORTED],
        ["one softmax without dropout", *(of_softmax(first[d][m]) for d, m in columns)],
        *([name, *(f"{student(run, *of)}{beyond(run, *of)}" for of in columns)] for name, run in runs.items()),
    ]
    header = [f"{dataset}: {plain_name(measure)}" for dataset, measure in columns]
    return markdown(["correlation with the teacher: **equivalent passes** (beyond one softmax)", *header], lines)


def of_softmax(entry: dict) -> str:
    """A baseline's correlation with the teacher and, if they are known, its equivalent passes."""
    correlation, worth = number(entry["baseline_pearson"]), entry.get("baseline")
    return f"{correlation}: **{passes(worth)}**" if worth else correlation


def beyond(metrics: dict, dataset: str, measure: str) -> str:
    """A student's equivalent passes beyond one softmax, in brackets; nothing for a run of an earlier version."""
    entry = metrics["agreement"][dataset][measure].get("beyond_softmax")
    return f" ({passes(entry)})" if entry else ""


def student(metrics: dict, dataset: str, measure: str, form: str = "{}: **{}**") -> str:
    """A student's correlation with the teacher, its equivalent passes and its scale, in a form."""
    entry = metrics["agreement"][dataset][measure]
    return form.format(number(entry["pearson"]), passes(entry), entry["scale"])


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        print(table(json.load(file)))
