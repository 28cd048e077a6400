"""One table of several students of one teacher, beside what Truong 2019 reports of his:

    python -m plots.students results/digits results/digits_truong2019 > results/digits/students.md

Each folder holds a student's metrics.json.
"""

import json
import sys
from pathlib import Path

from plots.style import INFORMATION, MEASURE_NAMES, TRUONG, worth
from plots.table import number

REPORTED = ("0.6", "0.4")  # correlations in distribution and out of it (truongbuu 2019, another teacher, of which measure is not said)
MEASURES = (*TRUONG, *INFORMATION)


def students(runs: dict[str, dict]) -> str:
    """Markdown: for each data set what frames a student, and each student's Pearson correlation, worth in passes and scale.

    runs: {name: metrics}, all of one teacher.
    """
    sets = next(iter(runs.values()))["agreement"]
    lines = ["| | " + " | ".join(MEASURE_NAMES[m] for m in MEASURES) + " |", "|---" * (len(MEASURES) + 1) + "|"]
    for dataset, frame in sets.items():
        lines.append(f"| **{dataset}**: floor, one softmax | " + " | ".join(number(frame[m]["floor_pearson"]) for m in MEASURES) + " |")
        reported = REPORTED[dataset != next(iter(sets))]
        lines.append(f"| reported by Truong 2019 of his student | {reported} |" + " |" * (len(MEASURES) - 1))
        for name, run in runs.items():
            lines.append(f"| {name} | " + " | ".join(cell(run["agreement"][dataset][m]) for m in MEASURES) + " |")
    return "\n".join(lines)


def cell(entry: dict) -> str:
    """Correlation with the teacher, what it is worth in passes, and the student's mean over the teacher's."""
    return f"{number(entry['pearson'])}: **{worth(entry)}**, ×{entry['scale']:.2f}"


def of_folders(folders: list[Path]) -> str:
    """The table of several folders, each student named by its method and options."""
    runs = {}
    for folder in folders:
        metrics = json.loads((folder / "metrics.json").read_text())
        runs[metrics["provenance"]["method"].replace("_", " ")] = metrics
    return students(runs)


if __name__ == "__main__":
    print(of_folders([Path(folder) for folder in sys.argv[1:]]))
