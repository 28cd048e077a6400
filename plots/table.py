"""The tables of an evaluation, made from its metrics.json:

    python -m plots.table results/cifar10_cpu/metrics.json

and tables of several students of one teacher.
"""

import json
import sys
from dataclasses import dataclass, field

from plots.cells import markdown, number
from plots.style import INFORMATION, MEASURE_NAMES, NAMES, TRUONG, passes, plain_name

SCORES = {
    "accuracy": "accuracy",
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE",
    "misclassification_auroc": "error AUROC",
    "aurc": "AURC",
}
AGREEMENT = "Pearson (95%)|equivalent passes (95%)|noise ceiling|baseline|last layer|split halves|Spearman|scale".split(
    "|"
)
ALL = (*TRUONG, *INFORMATION)  # the measures of the tables of several students
FRONT = ("total_variance", "predictive_entropy")  # of the short one
REPORTED = ("0.6", "", "0.4", "")  # correlations in distribution and out of it (truongbuu 2019)
SIMILARITIES = {
    ("energy_distance", "student"): "energy distance",
    ("energy_distance", "teacher"): "of other T passes",
    ("energy_distance", "point"): "of their mean alone",
    ("covariance", "student"): "RV of covariances",
    ("covariance", "teacher"): "of other T passes",
    ("variation_ratio", "student"): "Pearson of variation ratios",
    ("variation_ratio", "teacher"): "of other T passes",
    ("log_density", "student"): "log density, nats",
}

MEANINGS = {
    "Pearson": "correlation of the student's uncertainty with the teacher's, over the images",
    "equivalent passes": "so many passes of the teacher would agree as well with an independent reference",
    "noise ceiling": "what a perfect student would reach against this reference",
    "baseline": "what one softmax of the teacher without dropout reaches, at no cost",
    "last layer": "what passes with dropout in the classifier alone reach",
    "split halves": "split-half reliability, the correlation of the reference's two halves with each other",
    "scale": "the student's mean over the teacher's",
}
ALIKE = {
    "energy distance": "between the distributions of class probabilities, 0 if they are equal",
    "RV": "1 if the probabilities of the classes vary in the same directions",
    "variation ratio": "the share of samples that vote for another class than most",
    "log density": "the mean log likelihood of the teacher's samples under the student",
}
SPEED = """Speed, images a second at batch 256: teacher with {teacher_passes} passes {teacher_images_per_s:.0f}, \
student {student_images_per_s:.0f}: {ratio:.0f} times faster ({ratio_batch1:.0f} at batch 1)."""


@dataclass
class Part:
    """A part of the results: a text, or a table with the meanings of its columns."""

    text: str = ""
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    meanings: dict[str, str] = field(default_factory=dict)

    def markdown(self) -> str:
        """The part in Markdown."""
        table = markdown(self.header, self.rows) if self.header else ""
        meanings = "\n".join(f"- *{column}*: {meaning}." for column, meaning in self.meanings.items())
        return "\n\n".join(filter(None, [self.text, table, meanings]))


def table(metrics: dict) -> str:
    """metrics.json in Markdown."""
    return "\n\n".join(part.markdown() for part in parts(metrics))


def parts(metrics: dict) -> list[Part]:
    """The results of metrics.json: in words; tables of predictions, agreement, OOD detection and more; speed."""
    inside = next(iter(metrics["agreement"]))
    plain = [plain_name(measure) for measure in MEASURE_NAMES]
    scored = [
        [NAMES[who], *(number(metrics[who][score]) for score in SCORES)]
        for who in ("teacher_deterministic", "teacher", "student")
    ]
    agreed = [
        [f"{dataset}: {name}", *agreement(entry[measure])]
        for dataset, entry in metrics["agreement"].items()
        for measure, name in MEASURE_NAMES.items()
    ]
    detected = [
        [f"{dataset}: {NAMES[who]}", *(number(of[measure]["auroc"]) for measure in MEASURE_NAMES)]
        for dataset, entry in metrics["ood"].items()
        for who, of in entry.items()
    ]
    found = [
        Part(sentences(metrics)),
        Part("", [inside, *SCORES.values()], scored),
        Part("", ["teacher against student", *AGREEMENT], agreed, MEANINGS),
    ]
    if detected:
        found.append(Part("", [f"AUROC against {inside}", *plain], detected))
    if "rejected" in metrics:  # results of earlier versions lack these two tables
        alike = [
            [dataset, *(number(entry.get(name, {}).get(who)) for name, who in SIMILARITIES)]
            for dataset, entry in metrics["agreement"].items()
        ]
        header = ["student's class probabilities against T passes of the teacher", *SIMILARITIES.values()]
        found.append(Part("", header, alike, ALIKE))
        shares = [
            [
                f"{dataset}: {NAMES[who]}",
                *(f"{100 * of[dataset][who]:.1f}%" for of in map(metrics["rejected"].get, MEASURE_NAMES)),
            ]
            for dataset in metrics["agreement"]
            for who in ("teacher", "student")
        ]
        found.append(Part("", [f"rejected where the teacher rejects 5% of {inside}", *plain], shares))
    if "humans" in metrics:
        header = ["Spearman with the entropy of people's labels", *MEASURE_NAMES.values()]
        ranked = [
            [NAMES[who], *(with_interval(of[measure], "spearman") for measure in MEASURE_NAMES)]
            for who, of in metrics["humans"].items()
        ]
        found.append(Part("", header, ranked))
    return [*found, Part(SPEED.format(**metrics["speed"]))]


def sentences(metrics: dict) -> str:
    """The main results, in words."""
    inside, *outside = metrics["agreement"]
    ranks = [f"{name} as {passes_cell(entry['total_variance'])}" for name, entry in metrics["agreement"].items()]
    told = {
        who: [number(metrics["ood"][name][who]["predictive_entropy"]["auroc"]) for name in outside]
        for who in ("student", "teacher")
    }
    accuracy = {who: number(metrics[who]["accuracy"]) for who in told}
    lines = [
        "By total variance, the student's one pass ranks images as so many passes of the teacher would: "
        f"{', '.join(ranks)}.",
        f"By predictive entropy, it tells other images from {inside}: AUROC "
        f"{', '.join(map(' '.join, zip(outside, told['student'])))} (teacher: {', '.join(told['teacher'])}).",
        f"Its accuracy is {accuracy['student']}, the teacher's {accuracy['teacher']}.",
    ]
    return "\n".join(lines if outside else lines[::2])


def agreement(entry: dict) -> list[str]:
    """The cells of a measure, as named in `AGREEMENT`."""
    keys = ("noise_ceiling", "baseline_pearson", "last_layer_pearson", "split_half_pearson", "spearman")
    scale = "-" if entry["scale"] is None else f"{entry['scale']:.2f}"
    pearson = with_interval(entry, "pearson", "**")
    return [pearson, passes_cell(entry), *(number(entry[key]) for key in keys), scale]


def with_interval(entry: dict, key: str, mark: str = "") -> str:
    """A correlation, between marks, and its interval."""
    interval = "-" if entry[key] is None else "-".join(map(number, entry[f"{key}_ci"]))
    return f"{mark}{number(entry[key])}{mark} ({interval})"


def passes_cell(entry: dict) -> str:
    """Equivalent passes and their interval; the cell says if the student is below a baseline. A constant has a dash."""
    if entry["pearson"] is None:
        return "-"
    low, high = entry["equivalent_passes_ci"]
    text = passes(entry) + ("" if entry["censored"] else f" ({low:.0f}-{high:.0f})")
    baselines = [entry[key] for key in ("baseline_pearson", "last_layer_pearson") if entry[key] is not None]
    return text if all(entry["pearson"] > baseline for baseline in baselines) else f"{text}, **below a baseline**"


def students(runs: dict[str, dict]) -> str:
    """Markdown: for each data set the baseline, and each student's Pearson correlation, equivalent passes and scale.

    runs: {name: metrics}, all of one teacher.
    """
    rows = []
    for dataset, baseline in next(iter(runs.values()))["agreement"].items():
        rows.append([f"**{dataset}**: baseline, one softmax", *(number(baseline[m]["baseline_pearson"]) for m in ALL)])
        for name, run in runs.items():
            entries = [run["agreement"][dataset][measure] for measure in ALL]
            rows.append([name, *(f"{short_cell(entry)}, ×{entry['scale']:.2f}" for entry in entries)])
    return markdown(["", *(MEASURE_NAMES[measure] for measure in ALL)], rows)


def short_students(runs: dict[str, dict]) -> str:
    """Markdown: correlation and equivalent passes of two measures, on the in-distribution set and on the first OOD set;
    above them, what Truong 2019 reports.

    runs: {name: metrics}, all of one teacher.
    """
    first, *_ = agreements = [run["agreement"] for run in runs.values()]
    columns = [(dataset, measure) for dataset in list(first)[:2] for measure in FRONT]
    rows = [
        ["reported by Truong 2019, of his own teacher (he does not name the measure)", *REPORTED],
        ["one softmax without dropout", *(number(first[d][m]["baseline_pearson"]) for d, m in columns)],
    ]
    rows += [[name, *(short_cell(of[d][m]) for d, m in columns)] for name, of in zip(runs, agreements)]
    head = [f"{dataset}: {plain_name(measure)}" for dataset, measure in columns]
    return markdown(["correlation with the teacher: **equivalent passes**", *head], rows)


def short_cell(entry: dict) -> str:
    """Correlation with the teacher, and its equivalent passes."""
    return f"{number(entry['pearson'])}: **{passes(entry)}**"


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        print(table(json.load(file)))
