"""Tables from nested records: what stands at a path, and how it is written."""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import numpy as np

from plots.style import LABELS

Columns = Iterable[tuple]  # (name, path) of each, and maybe digits and a unit
Rows = Iterable[tuple[list[str], Iterable[dict]]]  # the first cells of each row, and the records of the others


def nested(entries: Iterable[dict], path: str) -> list[tuple[list[str], list]]:
    """What entries have at a path, for each of the keys that its `*` stand for: the labels of these keys, and what each
    entry has there. Entries that have nothing there are left out."""
    found = [([], entries)]
    for key in path.split("/"):
        found = [
            (
                [*labels, LABELS.get(k, k)] if key == "*" else labels,
                [entry[k] for entry in of if entry.get(k) is not None],
            )
            for labels, of in found
            for k in (dict.fromkeys(chain(*of)) if key == "*" else [key])
        ]
    return found


def values(entries: Iterable[dict], path: str) -> list[Any]:
    """What each entry has at a path, such as `before/accuracy`; `*` stands for every key."""
    return [value for _, of in nested(entries, path) for value in of]


def mean(entries: Iterable[dict], path: str, missing: float = np.nan) -> float:
    """The mean of what entries have at a path; `missing` if they have nothing there."""
    numbers = values(entries, path)
    return float(np.mean(numbers)) if numbers else missing


def average(entries: Iterable[dict], path: str, digits: int = 3) -> str:
    """The mean as a cell; a dash if there is none."""
    return f"{mean(entries, path):.{digits}f}".replace("nan", "-")


def spread(entries: Iterable[dict], path: str, digits: int = 3, unit: float = 1.0) -> str:
    """Mean ± standard deviation, or the number alone if it is the only one or always the same; a dash if there is
    none."""
    numbers = values(entries, path)
    if len(set(numbers)) < 2:
        return f"{numbers[0] / unit:.{digits}f}" if numbers else "-"
    return f"{np.mean(numbers) / unit:.{digits}f} ± {np.std(numbers, ddof=1) / unit:.{digits}f}"


def number(value: float | None) -> str:
    """A number with three decimals, or four below 0.01; a dash for None."""
    if value is None:
        return "-"
    return f"{value:.4f}" if 0 < abs(value) < 0.01 else f"{value:.3f}"


def single(entries: Iterable[dict], path: str) -> str:
    """The number of one entry; a dash if there is none."""
    return number(next(iter(values(entries, path)), None))


def table(first: list[str], columns: Columns, rows: Rows, cell: Callable[..., str]) -> tuple[list, list]:
    """Header and lines of a table: columns `first`, and a cell for each record and column."""
    columns = list(columns)
    lines = [[*labels, *(cell(entries, *of) for _, *of in columns)] for labels, entries in rows]
    return [*first, *(name for name, *_ in columns)], lines


def markdown(header: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """A table in Markdown; empty if it has no lines."""
    header, lines = list(header), list(lines)
    shown = (header, ["---"] * len(header), *lines) if lines else ()
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in shown)
