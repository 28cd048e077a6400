"""The tables and the figures of a comparison, from the files that compare.py wrote:

    python -m plots.comparison results/comparison

Writes README.md (long tables) and, of a comparison on test images, the figures into that folder.
"""

import argparse
from collections.abc import Callable, Collection
from dataclasses import fields
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from configs.schema import StudentSettings
from methods import student_method, teacher_method
from plots.recipes import passes_table
from plots.shifts import faithful, methods_under_shift, shift_table, shifts_of
from plots.style import BLUE, GREEN, GREY, MEASURE_COLOURS, MEASURE_NAMES, ORANGE, PANELS, PINK, markdown, save
from plots.table import SIMILARITIES
from training import artifact, script
from uncertainty.equivalent_passes import interval

Records = dict[str, list[dict[str, Any]]]  # {title: one for each seed}
QUALITY = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE",
    "misclassification_auroc": "error AUROC",
    "aurc": "AURC",
}
CALIBRATED = ("nll", "brier", "ece")  # the scores that a temperature changes most
COSTS = {"parameters": 1e6, "flops": 1e6, "bytes": 1e6, "peak_bytes": 1e6}
OWN = {"energy": "energy", "negative_log_density": "feature density", "max_probability": "max. probability"}


def load(folder: Path) -> Records:
    """Every file of a comparison, by title, in the order of the config."""
    records = [artifact.read_json(path) for path in folder.glob("*-[0-9]*.json")]
    by_title: Records = {}
    for record in sorted(records, key=lambda r: (r["place"], r["seed"])):
        by_title.setdefault(record["title"], []).append(record)
    return by_title


def at(record: dict, *keys: str) -> Any:
    """What a record has at `keys`, one within the other; None if it lacks one."""
    for key in keys:
        record = record.get(key) if record else None
    return record


def values(records: list[dict], *keys: str) -> list[float]:
    """The number at `keys` of each seed that has one."""
    return [number for record in records if (number := at(record, *keys)) is not None]


def spread(numbers: list[float], digits: int = 3, scale: float = 1.0) -> str:
    """Mean ± standard deviation over seeds (for one seed the number alone), or a dash if there is none."""
    if not numbers:
        return "-"
    text = f"{np.mean(numbers) / scale:.{digits}f}"
    return text if len(numbers) < 2 else f"{text} ± {np.std(numbers, ddof=1) / scale:.{digits}f}"


def mean(numbers: list[float]) -> float:
    """The mean over seeds; NaN where no seed has a number."""
    return float(np.mean(numbers)) if numbers else np.nan


def own_score(record: dict) -> str:
    """The score that a method's authors use for OOD inputs."""
    method = student_method(record["student"]) if record["student"] else teacher_method(record["teacher"])
    return method.ood_score


def detection(records: list[dict], dataset: str) -> list[float]:
    """AUROC of a data set by the method's own score."""
    return values(records, "ood", dataset, own_score(records[0]), "auroc")


def short(by_title: Records, columns: Collection[str] = ()) -> str:
    """One line per method: quality, calibration, detection of the nearest (first) OOD set, agreement and cost.

    columns: those that the table has beside the methods' names; default: all.
    """
    done = {title: good(records) for title, records in by_title.items()}
    near = next(iter(next(r for records in done.values() for r in records)["ood"]))
    header = ["method", "seeds", "accuracy", "ECE", "error AUROC", f"AUROC {near}: by entropy", "by its own score"]
    header += ["equivalent passes: total variance", *(label(measure) for measure in PANELS[1:])]
    header += ["scale of total variance", "time / one pass", "million parameters", "draws"]
    rows = []
    for title, records in done.items():
        if not records:
            rows.append([title, "failed", *["-"] * (len(header) - 2)])
            continue
        row = [title, str(len(records))]
        row += [spread(values(records, "before", score)) for score in ("accuracy", "ece", "misclassification_auroc")]
        row += [
            spread(values(records, "ood", near, score, "auroc"))
            for score in ("predictive_entropy", own_score(records[0]))
        ]
        row += [spread(passes_of(records, measure), 0) for measure in PANELS] + [spread(scales(records), 2)]
        row += [spread(values(records, "cost", "ratio"), 1), spread(values(records[:1], "cost", "parameters"), 2, 1e6)]
        rows.append([*row, spread(values(records[:1], "draws"), 0)])

    def chosen(line: list[str]) -> list[str]:
        return [cell for name, cell in zip(header, line) if not columns or name in ("method", *columns)]

    return markdown(chosen(header), [chosen(row) for row in rows])


def good(records: list[dict]) -> list[dict]:
    """The records of rows that did not fail."""
    return [record for record in records if "failed" not in record]


def passes_of(records: list[dict], measure: str, dataset: str | None = None) -> list[float]:
    """The equivalent passes of a measure on a data set (default: the first one, in distribution), at most 4T."""
    numbers = []
    for record in records:
        agreement = record.get("agreement") or {}
        entry = agreement.get(dataset or next(iter(agreement), None), {}).get(measure)
        if entry:
            numbers.append(entry["equivalent_passes"] or 0.0)
    return numbers


def scales(records: list[dict]) -> list[float]:
    """The mean total variance in distribution, relative to the teacher's."""
    inside = next(iter(at(records[0], "agreement") or ()), "")
    return values(records, "agreement", inside, "total_variance", "scale")


def about(by_title: Records) -> str:
    """Where the numbers come from and how to read them."""
    ran = [r["provenance"] for records in by_title.values() for r in good(records)]
    commits, devices = (sorted({p[key] for p in ran}) for key in ("commit", "device"))
    return (
        f"Made by `{ran[0]['command']}` and `python -m plots.comparison` from the files in this folder, one per "
        "method and seed, with all "
        f"values and settings (commit {', '.join(commits)}; {', '.join(devices)}). Mean ± standard deviation over "
        "seeds.\n\n"
        "AUROC of a data set: how well it is told from the images in distribution, by predictive entropy and by "
        "the method's own score, "
        "the one that its authors use (`ood_score` in its file). All scores are below. Equivalent passes: how many "
        "of the teacher's "
        "samples reach the same correlation with an independent reference, at most four times as many as half the "
        "reference has. Time: "
        "a prediction with all uncertainties, relative to one pass of the deterministic network of the config's "
        "`teacher`; both are "
        "measured in turn. Draws: the samples that a prediction is computed from; 0: closed forms. Parameters and "
        "bytes: those of the "
        "networks, without what a method fits to their features. "
        "MC-dropout takes `evaluation.passes` passes, also in the last layer alone."
    )


def older(by_title: Records) -> str:
    """A sentence that names the rows with settings that the present code does not have; empty if there are none."""
    today = {field.name for field in fields(StudentSettings)}
    titles = [
        title
        for title, records in by_title.items()
        if any(set(r["settings"]["student"]) - today for r in good(records))
    ]
    if not titles:
        return ""
    rows = "All rows are" if len(titles) == len(by_title) else f"These rows ({', '.join(titles)}) are"
    return f"\n\n**{rows} of an earlier version of the code, in which some settings had other names.**"


def long(by_title: Records) -> str:
    """All tables: quality before and after temperature, detection by every score, agreement, cost, time, and what
    failed."""
    done = {title: good(records) for title, records in by_title.items() if good(records)}
    first = next(iter(done.values()))[0]
    parts = ["## Quality, before and after temperature scaling"]
    header = ["method", "T", *QUALITY.values(), *(f"{QUALITY[score]}, tempered" for score in CALIBRATED)]
    parts.append(
        markdown(
            header,
            [
                [
                    title,
                    spread(values(r, "temperature"), 2),
                    *(spread(values(r, "before", s)) for s in QUALITY),
                    *(spread(values(r, "after", s)) for s in CALIBRATED),
                ]
                for title, r in done.items()
            ],
        )
    )
    detected = [("ood", name) for name in first.get("ood", ())] if first.get("compared_on") != "validation" else []
    for place in [("errors",), *detected] if "errors" in first else detected:
        parts.append(f"## Telling {place[-1]} apart")
        rows = []
        for title, records in done.items():
            for score in at(records[0], *place) or ():
                numbers = [spread(values(records, *place, score, key)) for key in ("auroc", "auprc", "fpr95")]
                rows.append([title, label(score), *numbers])
        parts.append(markdown(["method", "score", "AUROC", "AUPRC", "FPR95"], rows))
    parts.append("## Agreement with the teacher")
    rows = []
    for title, records in done.items():
        for name, entry in (records[0].get("agreement") or {}).items():
            for measure in entry:
                numbers = [spread(values(records, "agreement", name, measure, key)) for key in ("pearson", "scale")]
                rows.append(
                    [title, name, label(measure), numbers[0], spread(passes_of(records, measure, name), 0), numbers[1]]
                )
    parts.append(markdown(["method", "data", "measure", "Pearson", "equivalent samples", "scale"], rows))
    rows = []
    for title, records in done.items():
        for name in records[0].get("confident", ()):
            places = [(similarity, name, who) for similarity, who in SIMILARITIES] + [
                ("confident", name),
                ("spearman_of_parts", name),
            ]
            rows.append(
                [
                    title,
                    name,
                    *(spread(values(records, *place), 4 if "energy_distance" in place else 3) for place in places),
                ]
            )
    if rows:
        parts.append("## Similarity of the distributions")
        header = ["method", "data", *SIMILARITIES.values(), "share above 99.5% confidence", "Spearman of the two parts"]
        parts.append(markdown(header, rows))
    if pairs := paired(done):
        parts += pairs
    if shifted := [r[0] for r in done.values() if "shifts" in r[0]]:
        parts += ["## Under covariate shift (mean over all shifts, first seed)", shift_table(shifted)]
    if "cost" in first:
        parts += ["## Cost", costs(done)]
    stages = sorted({stage for records in done.values() for record in records for stage in record["seconds"]})
    parts.append("## Seconds of each stage")
    parts.append(
        markdown(
            ["method", *stages],
            [[title, *(spread(values(r, "seconds", s), 0) for s in stages)] for title, r in done.items()],
        )
    )
    failed = [(title, r) for title, records in by_title.items() for r in records if "failed" in r]
    if failed:
        parts.append("## Failed")
        parts.append("\n".join(f"- {title}, seed {record['seed']}: {record['failed']}" for title, record in failed))
    return "\n\n".join(parts)


def paired(done: Records) -> list[str]:
    """A section with every method's difference from the first one of ours, on the same images; empty if there is none
    of ours."""
    resampled = {title: records for title, records in done.items() if "resampled" in records[0]}
    ours = next((title for title in resampled if title.endswith(", ours")), None)
    if ours is None:
        return []
    base = {record["seed"]: record["resampled"] for record in resampled[ours]}
    scores = list(next(iter(base.values())))
    rows = []
    for title, records in resampled.items():
        pairs = [(r["resampled"], base[r["seed"]]) for r in records if r["seed"] in base]
        if title != ours and pairs:
            rows.append(
                [title, str(len(pairs)), *(difference([np.subtract(a[s], b[s]) for a, b in pairs]) for s in scores)]
            )
    said = (
        "the 95% interval over images drawn anew, the same ones for both methods; "
        "after it, the range over seeds, if there are several"
    )
    header = ["method", "seeds", *("NLL" if score == "nll" else score for score in scores)]
    return [f"## Difference from {ours}", f"First seed: {said}.", markdown(header, rows)]


def difference(seeds: list[np.ndarray]) -> str:
    """A difference with its interval, from the difference itself and its resamples for each seed; bold if the interval
    excludes 0."""
    low, high = interval(seeds[0])
    text = f"{seeds[0][0]:+.3f} ({low:+.3f} to {high:+.3f})"
    text = f"**{text}**" if low > 0 or high < 0 else text
    return text if len(seeds) < 2 else f"{text}; {min(s[0] for s in seeds):+.3f} to {max(s[0] for s in seeds):+.3f}"


def costs(done: Records) -> str:
    """The cost of a prediction, for each method."""
    header = [
        "method",
        "million parameters",
        "million FLOPs",
        "MB on disk",
        "MB in use at batch 256",
        "time / one pass",
        "at batch 1",
    ]
    return markdown(
        header,
        [
            [
                title,
                *(spread(values(r, "cost", key), 2, scale) for key, scale in COSTS.items()),
                *(spread(values(r, "cost", key), 1) for key in ("ratio", "ratio_batch1")),
            ]
            for title, r in done.items()
        ],
    )


def label(score: str) -> str:
    """The name of a score in the tables."""
    return (MEASURE_NAMES | OWN).get(score, score)


def by_method(by_title: Records) -> Figure:
    """One line for each method, one panel for each thing that it is good or bad at: means over seeds, with standard
    deviations."""
    done = {title: good(records) for title, records in by_title.items() if good(records)}
    every = [record for records in done.values() for record in records]
    inside = next(iter(next((r["agreement"] for r in every if r.get("agreement")), ())), None)
    sets = dict(zip(every[0]["ood"], cycle((BLUE, ORANGE, GREEN, PINK, GREY))))
    panels: dict[str, dict[str, tuple[str, Callable[[list[dict]], list[float]]]]] = {
        "accuracy": {"": (BLUE, lambda r: values(r, "before", "accuracy"))},
        "AUROC of errors": {"": (BLUE, lambda r: values(r, "before", "misclassification_auroc"))},
        "AUROC of OOD, by entropy": {
            name: (colour, lambda r, name=name: values(r, "ood", name, "predictive_entropy", "auroc"))
            for name, colour in sets.items()
        },
        "AUROC of OOD, by own score": {
            name: (colour, lambda r, name=name: detection(r, name)) for name, colour in sets.items()
        },
        f"equivalent passes, {inside}": {
            MEASURE_NAMES[m].split(" (")[0]: (MEASURE_COLOURS[m], lambda r, m=m: passes_of(r, m)) for m in PANELS
        },
        "time / one pass": {"": (BLUE, lambda r: values(r, "cost", "ratio"))},
    }
    panels = {
        name: kinds for name, kinds in panels.items() if any(of(r) for _, of in kinds.values() for r in done.values())
    }
    figure = Figure(figsize=(3 + 2.3 * len(panels), 0.22 * len(done) + 1.8), layout="constrained")
    figure.suptitle("What each method gives, and its time (dots: means over seeds; lines: standard deviations)")
    for axis, (name, kinds) in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items()):
        for kind, (colour, of) in kinds.items():
            means = [mean(of(records)) for records in done.values()]
            errors = [np.std(of(records), ddof=1) if len(of(records)) > 1 else 0 for records in done.values()]
            axis.errorbar(
                means, range(len(done)), xerr=errors, fmt="o", markersize=4, color=colour, label=kind, linewidth=0.8
            )
        axis.set(xlabel=name)
        axis.grid(linewidth=0.3)
        if len(kinds) > 1:
            axis.legend(
                loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, handletextpad=0, columnspacing=0.6, fontsize=7
            )
        if name.startswith("equivalent"):
            axis.set_xscale("symlog", linthresh=1)
        if name.startswith("time"):
            axis.set_xscale("log")
    axis.set_yticks(range(len(done)), list(done))
    axis.set_ylim(len(done) - 0.5, -0.5)  # the first method above
    return figure


def main(folder: Path, titles: list[str] | None = None) -> None:
    """Write all files of a comparison's report, for the rows `titles` or for all rows that are found."""
    by_title = load(folder)
    if titles is not None:
        by_title = {title: by_title[title] for title in titles if title in by_title}
    if not any(good(records) for records in by_title.values()):
        print(f"{folder}: no finished row, so there is no table")
        return
    first = next(record for records in by_title.values() for record in good(records))
    chosen = [record for records in by_title.values() for record in good(records) if record.get("agreement")]
    on_validation = first.get("compared_on") == "validation"
    front = passes_table(chosen) if on_validation and chosen else short(by_title)
    page = f"# {folder.name}\n\n{about(by_title)}{older(by_title)}\n\n{front}\n\n{long(by_title)}\n"
    artifact.write_text(folder / "README.md", page)
    if on_validation:
        return
    if shifted := [records[0] for records in map(good, by_title.values()) if records and "shifts" in records[0]]:
        save(methods_under_shift(shifted), folder / "shifts_by_method.png")
        if students := [record for record in shifted if record["kind"] == "student"]:
            save(shifts_of(max(students, key=faithful)), folder / "shifts_of_the_most_faithful_student.png")
    save(by_method(by_title), folder / "methods.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where compare.py wrote its files, such as results/comparison")
    script.guard(lambda: main(parser.parse_args().folder))
