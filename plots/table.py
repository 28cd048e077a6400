"""The table of an evaluation, made from its metrics.json:

python -m plots.table results/cifar10_cpu/metrics.json
"""

import json
import sys

from plots.style import MEASURE_NAMES, NAMES, markdown, passes

SCORES = {
    "accuracy": "accuracy",
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE",
    "misclassification_auroc": "error AUROC",
    "aurc": "AURC",
}
AGREEMENT = (
    "Pearson (95%)",
    "equivalent passes (95%)",
    "noise ceiling",
    "baseline",
    "last layer",
    "split halves",
    "Spearman",
    "scale",
)

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


def sentences(metrics: dict) -> str:
    """The main results of the tables, in words."""
    inside, *outside = metrics["agreement"]
    ranks = [f"{name} as {passes_cell(metrics['agreement'][name]['total_variance'])}" for name in (inside, *outside)]
    said = [
        "By total variance, the student's one pass ranks images as so many passes of the teacher would: "
        f"{', '.join(ranks)}."
    ]
    if outside:
        tells = [f"{name} {number(metrics['ood'][name]['student']['predictive_entropy']['auroc'])}" for name in outside]
        theirs = [number(metrics["ood"][name]["teacher"]["predictive_entropy"]["auroc"]) for name in outside]
        said.append(
            f"By predictive entropy, it tells other images from {inside}: AUROC {', '.join(tells)} (teacher: "
            f"{', '.join(theirs)})."
        )
    said.append(
        f"Its accuracy is {number(metrics['student']['accuracy'])}, the teacher's "
        f"{number(metrics['teacher']['accuracy'])}."
    )
    return "\n".join(said)


def table(metrics: dict) -> str:
    """metrics.json as Markdown: results in words; tables of predictions, agreement and OOD detection; what columns
    mean; speed."""
    inside = next(iter(metrics["agreement"]))
    short = [name.split(" (")[0] for name in MEASURE_NAMES.values()]
    scored = [
        [NAMES[who], *(number(metrics[who][score]) for score in SCORES)]
        for who in ("teacher_deterministic", "teacher", "student")
    ]
    agreed = [
        [f"{dataset}: {name}", *agreement(entry[measure])]
        for dataset, entry in metrics["agreement"].items()
        for measure, name in MEASURE_NAMES.items()
    ]
    parts = [sentences(metrics), markdown([inside, *SCORES.values()], scored)]
    parts += [markdown(["teacher against student", *AGREEMENT], agreed), meanings(MEANINGS)]
    if metrics["ood"]:
        rows = [
            [f"{dataset}: {NAMES[who]}", *(number(of[measure]["auroc"]) for measure in MEASURE_NAMES)]
            for dataset, entry in metrics["ood"].items()
            for who, of in entry.items()
        ]
        parts.append(markdown([f"AUROC against {inside}", *short], rows))
    if "rejected" in metrics:  # results of earlier versions lack these two tables
        rows = [
            [dataset, *(number(entry.get(name, {}).get(who)) for name, who in SIMILARITIES)]
            for dataset, entry in metrics["agreement"].items()
        ]
        parts += [
            markdown(["student's class probabilities against T passes of the teacher", *SIMILARITIES.values()], rows),
            meanings(ALIKE),
        ]
        rows = [
            [
                f"{dataset}: {NAMES[who]}",
                *(f"{100 * metrics['rejected'][measure][dataset][who]:.1f}%" for measure in MEASURE_NAMES),
            ]
            for dataset in metrics["agreement"]
            for who in ("teacher", "student")
        ]
        parts.append(markdown([f"rejected where the teacher rejects 5% of {inside}", *short], rows))
    if "humans" in metrics:
        rows = [
            [
                NAMES[who],
                *(
                    "{} ({}-{})".format(*map(number, (e["spearman"], *e["spearman_ci"])))
                    for e in map(entry.get, MEASURE_NAMES)
                ),
            ]
            for who, entry in metrics["humans"].items()
        ]
        parts.append(markdown(["Spearman with the entropy of people's labels", *MEASURE_NAMES.values()], rows))
    s = metrics["speed"]
    parts.append(
        f"Speed, images a second at batch 256: teacher with {s['teacher_passes']} passes "
        f"{s['teacher_images_per_s']:.0f}, "
        f"student {s['student_images_per_s']:.0f}: {s['ratio']:.0f} times faster ({s['ratio_batch1']:.0f} at batch 1)."
    )
    return "\n\n".join(parts)


def agreement(entry: dict) -> list[str]:
    """The cells of a measure, as named in `AGREEMENT`."""
    interval = "-" if entry["pearson"] is None else "-".join(map(number, entry["pearson_ci"]))
    keys = ("noise_ceiling", "baseline_pearson", "last_layer_pearson", "split_half_pearson", "spearman")
    scale = "-" if entry["scale"] is None else f"{entry['scale']:.2f}"
    return [
        f"**{number(entry['pearson'])}** ({interval})",
        passes_cell(entry),
        *(number(entry[key]) for key in keys),
        scale,
    ]


def meanings(columns: dict[str, str]) -> str:
    """What columns mean, as a list."""
    return "\n".join(f"- *{column}*: {meaning}." for column, meaning in columns.items())


def passes_cell(entry: dict) -> str:
    """Equivalent passes and their interval; the cell says if the student is below a baseline. A constant has a dash."""
    if entry["pearson"] is None:
        return "-"
    low, high = entry["equivalent_passes_ci"]
    text = passes(entry) + ("" if entry["censored"] else f" ({low:.0f}-{high:.0f})")
    baselines = [entry[key] for key in ("baseline_pearson", "last_layer_pearson") if entry[key] is not None]
    return text if all(entry["pearson"] > baseline for baseline in baselines) else f"{text}, **below a baseline**"


def number(value: float | None) -> str:
    """A number with three decimals, or four below 0.01; a dash for None."""
    if value is None:
        return "-"
    return f"{value:.4f}" if 0 < abs(value) < 0.01 else f"{value:.3f}"


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        print(table(json.load(file)))
