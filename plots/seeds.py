"""One table of several students of one teacher, the mean over seeds and each of them:

    python -m plots.seeds results/cifar10_cpu results/cifar10_cpu_gaussian

Each folder holds a student's metrics.json, and those of its other seeds in seed*/metrics.json.
"""

import json
import sys
from pathlib import Path

import numpy as np

from plots.style import MEASURE_NAMES, PANELS, counted_worth
from plots.table import number


def load(folder: Path) -> list[dict]:
    """The metrics of every seed, the folder's own first."""
    return [json.loads(path.read_text()) for path in [folder / "metrics.json", *sorted(folder.glob("seed*/metrics.json"))]]


def seeds(students: dict[str, list[dict]]) -> str:
    """Markdown: for each data set and measure what frames a student, and for each kind of student Pearson, worth and scale.

    students: {name: metrics of each seed}.
    """
    first = next(iter(students.values()))[0]
    columns = ["", "floor", "head's floor", "limit"]
    for name, runs in students.items():
        columns += [f"{name}: Pearson", "family's limit", f"worth ({', '.join(str(i) for i in range(len(runs)))})", "scale"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for dataset, entries in first["agreement"].items():
        for measure in PANELS:
            frame = entries[measure]
            cells = [number(frame[key]) for key in ("floor_pearson", "floor_head_pearson", "limit_pearson")]
            for runs in students.values():
                of = [run["agreement"][dataset][measure] for run in runs]
                each = ", ".join(f"{counted_worth(entry):.0f}" for entry in of)
                cells += [
                    number(float(np.mean([entry["pearson"] for entry in of]))),
                    number(of[0]["family_limit_pearson"]),
                    f"**{np.mean([counted_worth(entry) for entry in of]):.0f}** ({each})",
                    f"{np.mean([entry['scale'] for entry in of]):.2f}",
                ]
            lines.append(f"| {dataset}: {MEASURE_NAMES[measure].split(' (')[0]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def of_folders(folders: list[Path]) -> str:
    """The table of several folders, each student named by its method."""
    students = {}
    for folder in folders:
        runs = load(folder)
        students[runs[0]["provenance"]["method"].replace("_", " ")] = runs
    return seeds(students)


if __name__ == "__main__":
    print(of_folders([Path(folder) for folder in sys.argv[1:]]))
