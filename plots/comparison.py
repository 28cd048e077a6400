"""The tables and the figures of a comparison, from the files that compare.py wrote:

    python -m plots.comparison results/comparison

Writes README.md (long tables) and, of a comparison on test images, the figures into that folder.
"""

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from plots.cells import Columns, Rows, average, markdown, mean, nested, spread, table, values
from plots.methods import (
    by_method,
    kept_by_epochs,
    kept_shares,
    lengths,
    methods_under_shift,
    quality,
    shifts_of_the_best,
    worth,
    worths,
)
from plots.records import Record, Records, by_severity, every, finished, first_set, load
from plots.style import MEASURE_NAMES, PANELS, plain_name, save
from plots.table import SIMILARITIES
from training import artifact, script
from uncertainty.equivalent_passes import interval

QUALITY = [
    ("T", "temperature", 2),
    ("accuracy", "before/accuracy"),
    ("macro F1", "before/macro_f1"),
    ("NLL", "before/nll"),
    ("Brier", "before/brier"),
    ("ECE", "before/ece"),
    ("error AUROC", "before/misclassification_auroc"),
    ("AURC", "before/aurc"),
    ("NLL, tempered", "after/nll"),
    ("Brier, tempered", "after/brier"),
    ("ECE, tempered", "after/ece"),
]
TEACHERS = [
    ("accuracy", "before/accuracy"),
    ("NLL", "before/nll"),
    ("ECE", "before/ece"),
    ("AUROC of errors: predictive entropy", "errors/predictive_entropy/auroc"),
    ("AUROC of errors: mutual information", "errors/mutual_information/auroc"),
    ("of shifted images: predictive entropy", "ood/*/predictive_entropy/auroc"),
    ("of shifted images: mutual information", "ood/*/mutual_information/auroc"),
]
DETECTION = [("AUROC", "auroc"), ("AUPRC", "auprc"), ("FPR95", "fpr95")]
AGREEMENT = [("Pearson", "pearson"), ("equivalent samples", "equivalent_passes", 0), ("scale", "scale")]
TIME = ("time / one pass", "cost/ratio", 1)
SIZE = ("million parameters", "cost/parameters", 2, 1e6)
COSTS = [
    SIZE,
    ("million FLOPs", "cost/flops", 2, 1e6),
    ("MB on disk", "cost/bytes", 2, 1e6),
    ("MB in use at batch 256", "cost/peak_bytes", 2, 1e6),
    TIME,
    ("at batch 1", "cost/ratio_batch1", 1),
]
UNDER_SHIFT = [
    ("accuracy", "accuracy"),
    ("NLL", "nll"),
    ("ECE", "ece"),
    ("predictive entropy, mean", "means/predictive_entropy"),
    ("error AUROC", "errors/max_probability"),
    ("coverage", "coverage"),
    ("risk", "risk"),
    *((f"equivalent passes: {plain_name(m)}", f"agreement/{m}/equivalent_passes", 0) for m in PANELS),
]
NOISES = {  # kind and severity
    "none": "shifts/none/0",
    "Gaussian, 1": "shifts/gaussian_noise/1",
    "shot, 1": "shifts/shot_noise/1",
    "impulse, 1": "shifts/impulse_noise/1",
    "Gaussian, 3": "shifts/gaussian_noise/3",
}
EPISTEMIC = ("total_variance", "mutual_information")
SIMILARITY = [
    *((name, path, 4 if path.startswith("energy") else 3) for path, name in SIMILARITIES.items()),
    ("share above 99.5% confidence", "confident"),
    ("Spearman of the two parts", "spearman_of_parts"),
]
ABOUT = """Made by `{command}` and `python -m plots.comparison` from the files in this folder, one per \
method and seed, with all values and settings (commit {commits}; {devices}). Mean ± standard deviation over seeds.

AUROC of a data set: how well it is told from the images in distribution, by predictive entropy and by the method's \
own score, the one that its authors use (`ood_score` in its file). All scores are below. Equivalent passes: how many \
of the teacher's samples reach the same correlation with an independent reference, at most four times as many as half \
the reference has. Time: a prediction with all uncertainties, relative to one pass of the deterministic network of the \
config's `teacher`; both are measured in turn. Draws: the samples that a prediction is computed from; 0: closed forms. \
Parameters and bytes: those of the networks, without what a method fits to their features. MC-dropout takes \
`evaluation.passes` passes, also in the last layer alone."""


def short(by_title: Records) -> str:
    """One line per method: quality, calibration, detection of the nearest (first) OOD set, agreement and cost."""
    done = finished(by_title)
    near, agreement = next(iter(every(done)[0]["ood"])), f"agreement/{first_set(every(done))}"
    measures = ["equivalent passes: total variance", *(MEASURE_NAMES[measure] for measure in PANELS[1:])]
    columns = [
        ("accuracy", "before/accuracy"),
        ("ECE", "before/ece"),
        ("error AUROC", "before/misclassification_auroc"),
        (f"AUROC {near}: by entropy", f"ood/{near}/predictive_entropy/auroc"),
        *((f"by {MEASURE_NAMES[m].partition(' (')[0]}", f"ood/{near}/{m}/auroc") for m in EPISTEMIC),
        ("by its own score", f"own/{near}/auroc"),
        *((name, f"{agreement}/{measure}/equivalent_passes", 0) for name, measure in zip(measures, PANELS)),
        ("scale of total variance", f"{agreement}/total_variance/scale", 2),
        TIME,
        SIZE,
        ("draws", "draws", 0),
    ]
    succeeded = {title: done.get(title, []) for title in by_title}
    rows = (([title, str(len(seeds) or "failed")], seeds) for title, seeds in succeeded.items())
    return text(["method", "seeds"], columns, rows)


def each(records: list[Record]) -> list[tuple[list[str], Record]]:
    """A line's first cell, with the seed if there are several, and its record."""
    seeds = Counter(record["title"] for record in records)
    return [([r["title"] + (f", seed {r['seed']}" if seeds[r["title"]] > 1 else "")], r) for r in records]


def recipes(records: list[Record], sets: str = "validation images, on shifts") -> str:
    """Each row's equivalent passes on the first of its sets, on the others (mean), and its mean over the teacher's.
    sets: what they are."""

    def cell(entries: Iterable[dict], measure: str) -> str:
        if not (passes := values(entries, f"{measure}/equivalent_passes")):
            return "-"
        scale, *_ = values(entries, f"{measure}/scale")
        return f"{passes[0]:.0f}, {np.mean(passes[1:]):.0f}; ×{scale:.2f}"

    rows = ((title, record["agreement"].values()) for title, record in each(records))
    measures = [(plain_name(measure), measure) for measure in PANELS]
    return text([f"equivalent passes on {sets}; scale"], measures, rows, cell)


def teachers(records: list[Record]) -> str:
    """Each teacher's quality, and how well two scores tell its errors and shifted images (mean over the shifts)
    apart."""
    return text(["teacher"], TEACHERS, ((title, [r]) for title, r in each(records)), average)


def under_noise(records: list[Record]) -> str:
    """Each row's accuracy and its mean predictive entropy in nats without noise and, by kind and severity, with it."""
    return text(
        ["accuracy; entropy"],
        NOISES.items(),
        ((title, [r]) for title, r in each(records) if "shifts" in r),
        lambda of, path: f"{average(of, path + '/accuracy')}; {average(of, path + '/means/predictive_entropy', 2)}",
    )


def similar(by_title: Records) -> str:
    """How far each student's distributions are from its teacher's, on every set, by two judges that no student is
    trained on."""
    students = {title: seeds for title, seeds in finished(by_title).items() if "energy_distance" in seeds[0]}
    judges = [("energy distance", "energy_distance", 4), ("RV", "covariance", 3)]
    sets = list(every(students)[0]["energy_distance"])
    columns = [(f"{judge}: {name}", f"{key}/{name}/student", n) for judge, key, n in judges for name in sets]
    return text(["method"], columns, (([title], seeds) for title, seeds in students.items()))


def kept(by_title: Records) -> str:
    """The share of an ensemble's gain over one of its members that each of its students keeps."""
    done = finished(by_title)
    shares = kept_shares(done)
    columns = [(what, what) for what in next(iter(shares.values()), ())]
    rows = (
        ([title, str(done[title][0]["settings"]["student"]["epochs"] or "-")], [of]) for title, of in shares.items()
    )
    return text(["student", "epochs"], columns, rows, lambda of, what: f"{mean(of, what):.0%}".replace("nan%", "-"))


def about(records: list[dict]) -> str:
    """Where the numbers of finished rows come from, and how to read them."""
    commits, devices = (", ".join(sorted(set(values(records, f"provenance/{key}")))) for key in ("commit", "device"))
    command = re.sub(r" --only ('[^']*'|\[[^]]*\]|\S+)", "", records[0]["provenance"]["command"])
    return ABOUT.format(command=command, commits=commits, devices=devices)


def long(by_title: Records) -> str:
    """All tables that have rows: quality before and after temperature, detection by every score, agreement, cost,
    time, and what failed."""
    done = finished(by_title)
    first = every(done)[0]
    places = ["errors"] if "errors" in first else []
    if first["compared_on"] == "test":
        places += [f"ood/{name}" for name in first["ood"]]
    methods = [([title], seeds) for title, seeds in done.items()]
    alike = (
        ([title, name], [of_set(r, name) for r in done[title]]) for (title, name), _ in rows_at(done, "confident/*")
    )
    detection = {
        f"Telling {place.removeprefix('ood/')} apart": text(["method", "score"], DETECTION, rows_at(done, f"{place}/*"))
        for place in places
    }
    shifted = (([title, level], of) for title, seeds in done.items() for level, of in by_severity(seeds[0]).items())
    stages = sorted({stage for seconds in values(every(done), "seconds") for stage in seconds})
    failed = [
        (r, r.get("failed") or f"{r['failed_later']} (the tables have an earlier result)")
        for r in every(by_title)
        if r.keys() & {"failed", "failed_later"}
    ]
    sections = {
        "Quality, before and after temperature scaling": text(["method"], QUALITY, methods),
        **detection,
        "Agreement with the teacher": text(["method", "data", "measure"], AGREEMENT, rows_at(done, "agreement/*/*")),
        "Similarity of the distributions": text(["method", "data"], SIMILARITY, alike),
        "Share of the ensemble's gain over one member that a student keeps": kept(by_title),
        **paired(done),
        "Under covariate shift (mean over all shifts, first seed)": text(
            ["method", "severity"], UNDER_SHIFT, shifted, average
        ),
        "Cost": text(["method"], COSTS, methods if "cost" in first else ()),
        "Seconds of each stage": text(["method"], [(stage, f"seconds/{stage}", 0) for stage in stages], methods),
        "Failed": "\n".join(f"- {r['title']}, seed {r['seed']}: {why}" for r, why in failed),
    }
    return "\n\n".join(f"## {heading}\n\n{body}" for heading, body in sections.items() if body)


def rows_at(done: Records, path: str) -> Rows:
    """A row for each method and each of the keys that `*` stands for in a path, with what every seed has there."""
    return [([title, *keys], of) for title, seeds in done.items() for keys, of in nested(seeds, path)]


def of_set(record: Record, name: str) -> Record:
    """What a record has of one data set."""
    return {key: of[name] for key, of in record.items() if isinstance(of, dict) and name in of}


def text(first: list[str], columns: Columns, rows: Rows, cell: Callable[..., str] = spread) -> str:
    """A table in Markdown."""
    return markdown(*table(first, columns, rows, cell))


def paired(done: Records) -> dict[str, str]:
    """A section with every method's difference from the first one of ours, on the same images; none if there is no
    method of ours."""
    ours = next((title for title, seeds in done.items() if title.endswith(", ours") and "resampled" in seeds[0]), None)
    if ours is None:
        return {}
    base = {r["seed"]: r["resampled"] for r in done[ours]}
    pairs = {title: [(r["resampled"], base[r["seed"]]) for r in of if r["seed"] in base] for title, of in done.items()}
    rows = (([title, str(len(of))], of) for title, of in pairs.items() if of and title != ours)
    columns = [("NLL" if score == "nll" else score, score) for score in next(iter(base.values()))]
    meaning = (
        "First seed: the 95% interval over images drawn anew, the same ones for both methods; "
        "after it, the range over seeds, if there are several."
    )
    return {f"Difference from {ours}": f"{meaning}\n\n{text(['method', 'seeds'], columns, rows, difference)}"}


def difference(pairs: list[tuple[dict, dict]], score: str) -> str:
    """The difference of a score with its interval, from the score itself and its resamples for each seed; bold if the
    interval excludes 0."""
    seeds = [np.subtract(a[score], b[score]) for a, b in pairs]
    low, high = interval(seeds[0])
    firsts = [seed[0] for seed in seeds]
    cell = f"{firsts[0]:+.3f} ({low:+.3f} to {high:+.3f})"
    cell = f"**{cell}**" if low > 0 or high < 0 else cell
    return cell if len(seeds) < 2 else f"{cell}; {min(firsts):+.3f} to {max(firsts):+.3f}"


def main(folder: Path, titles: list[str] | None = None) -> None:
    """Write all files of a comparison's report, for the rows `titles` or for all rows that are found."""
    found = load(folder)
    by_title = {title: found[title] for title in titles or found if title in found}
    done = finished(by_title)
    if not done:
        print(f"{folder}: no finished row, so there is no table")
        return
    records = every(done)
    on_validation = records[0]["compared_on"] == "validation"
    compared = [record for record in records if record.get("agreement")]
    front = recipes(compared) if on_validation and compared else short(by_title)
    page = f"# {folder.name}\n\n{about(records)}\n\n{front}\n\n{long(by_title)}\n"
    artifact.write_text(folder / "README.md", page)
    if on_validation:
        return
    if shifted := [seeds[0] for seeds in done.values() if "shifts" in seeds[0]]:
        save(methods_under_shift(shifted), folder / "shifts_by_method.png")
        if students := [record for record in shifted if record["kind"] == "student"]:
            save(shifts_of_the_best(students), folder / "shifts_of_the_most_faithful_student.png")
    save(by_method(done), folder / "methods.png")
    if points := worths(done):
        save(worth(points), folder / "worth.png")
    if sum(seeds[0]["kind"] == "teacher" and seeds[0]["teacher"] == "ensemble" for seeds in done.values()) > 1:
        save(quality(done), folder / "quality.png")
    if by_epochs := kept_by_epochs(done):
        save(lengths(by_epochs), folder / "kept_by_epochs.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where compare.py wrote its files, such as results/comparison")
    script.guard(lambda: main(parser.parse_args().folder))
