"""How methods stand covariate shift: tables and heat maps of a comparison that has `evaluation.shifted` images."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray

from data.corruptions import CORRUPTIONS
from plots.style import MEASURE_NAMES, PANELS, defined, markdown

Entries = list[dict[str, Any]]
BY_METHOD = {
    "accuracy": ("accuracy",),
    "ECE": ("ece",),
    "AUROC of errors": ("errors", "max_probability"),
    "equivalent passes, total variance": ("agreement", "total_variance", "equivalent_passes"),
}
BY_SHIFT = BY_METHOD | {
    "scale of total variance": ("agreement", "total_variance", "scale"),
    "risk of the answered, 80% without shift": ("risk",),
}
COLUMNS = {"accuracy": ("accuracy",), "NLL": ("nll",), "ECE": ("ece",), "error AUROC": ("errors", "max_probability"),
           "coverage": ("coverage",), "risk": ("risk",)}  # fmt: skip
WITHOUT = "none"  # the shift of severity 0


def number(entry: dict[str, Any], keys: tuple[str, ...]) -> float:
    """The number at `keys`, one within the other; NaN if the entry lacks one."""
    for key in keys:
        entry = entry.get(key) if isinstance(entry, dict) else None
    return np.nan if entry is None else entry


def severities(shifts: dict[str, dict[str, dict]]) -> dict[str, Entries]:
    """The entries of all corruptions at each severity."""
    levels = sorted({severity for kind in shifts for severity in shifts[kind]}, key=int)
    return {
        level: [by[level] for kind, by in shifts.items() if level in by and (kind in CORRUPTIONS or kind == WITHOUT)]
        for level in levels
    }


def mean_over(entries: Entries, keys: tuple[str, ...]) -> float:
    """The mean of the entries that have the number; NaN if none has."""
    numbers = [value for entry in entries if not np.isnan(value := number(entry, keys))]
    return float(np.mean(numbers)) if numbers else np.nan


def shift_table(records: list[dict]) -> str:
    """Markdown: each row at each severity, the mean over all shifts but the class priors, which have lines of their
    own."""
    passes = {MEASURE_NAMES[m].split(" (")[0]: ("agreement", m, "equivalent_passes") for m in PANELS}
    header = ["method", "severity", *COLUMNS, *(f"equivalent passes: {name}" for name in passes)]
    rows = []
    for record in records:
        groups = severities(record["shifts"])
        groups |= {
            f"class priors {level}": [entry] for level, entry in record["shifts"].get("class_priors", {}).items()
        }
        for level, entries in groups.items():
            cells = [defined(mean_over(entries, keys)) for keys in COLUMNS.values()]
            cells += [defined(mean_over(entries, keys), 0) for keys in passes.values()]
            rows.append([record["title"], level, *(cell.replace("not defined", "-") for cell in cells)])
    return markdown(header, rows)


def methods_under_shift(records: list[dict]) -> Figure:
    """A heat map for each quantity: a row for each method, a column for each severity, the mean over all shifts."""
    levels = list(severities(records[0]["shifts"]))
    titles = [record["title"] for record in records]
    values = {
        name: np.array(
            [[mean_over(entries, keys) for entries in severities(record["shifts"]).values()] for record in records]
        )
        for name, keys in BY_METHOD.items()
    }
    return heat_maps(values, titles, levels, "Covariate shift: the mean over all shifts at each severity (0: none)")


def shifts_of(record: dict) -> Figure:
    """A heat map for each quantity of one method: a row for each shift, a column for each severity."""
    shifts = record["shifts"]
    kinds = [kind for kind in shifts if kind != WITHOUT]
    levels = list(severities(shifts))
    values = {
        name: np.array(
            [
                [number(shifts[WITHOUT if level == "0" else kind].get(level, {}), keys) for level in levels]
                for kind in kinds
            ]
        )
        for name, keys in BY_SHIFT.items()
    }
    names = [kind.replace("_", " ") for kind in kinds]
    return heat_maps(values, names, levels, f"{record['title']}: each covariate shift at each severity (0: none)")


def faithful(record: dict) -> float:
    """The mean of a row's equivalent passes (total variance) over all shifts and severities; -1 if the row has no
    variance."""
    entries = [entry for by_severity in record["shifts"].values() for entry in by_severity.values()]
    return float(np.nan_to_num(mean_over(entries, ("agreement", "total_variance", "equivalent_passes")), nan=-1))


def heat_maps(values: dict[str, ndarray], rows: list[str], columns: list[str], title: str) -> Figure:
    """Heat maps [rows, columns] beside each other, with the numbers in them."""
    figure = Figure(figsize=(2.3 * len(values) + 2.5, 0.24 * len(rows) + 1.5), layout="constrained")
    figure.suptitle(title)
    panels: list[Axes] = list(figure.subplots(1, len(values), sharey=True))
    for axis, (name, numbers) in zip(panels, values.items()):
        axis.imshow(np.ma.masked_invalid(numbers), aspect="auto", cmap="cividis")
        low, high = np.nanmin(numbers, initial=np.inf), np.nanmax(numbers, initial=-np.inf)
        for (y, x), value in np.ndenumerate(numbers):
            dark = not np.isnan(value) and value < (low + high) / 2
            text = "-" if np.isnan(value) else f"{value:.0f}" if high > 10 else f"{value:.3f}"
            axis.text(x, y, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
        axis.set_title(name.replace(", ", ",\n"), fontsize=8)
        axis.set(xticks=range(len(columns)), xticklabels=columns, xlabel="severity")
        axis.set_yticks(range(len(rows)), rows)
        axis.tick_params(length=0)
    return figure
