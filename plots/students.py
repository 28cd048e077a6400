"""Tables of several students of one teacher. The README begins with the short one, which has the results that Truong 2019 reports."""

from plots.style import INFORMATION, MEASURE_NAMES, TRUONG, passes
from plots.table import number

REPORTED = ("0.6", "0.4")  # correlations in distribution and out of it (truongbuu 2019)
MEASURES = (*TRUONG, *INFORMATION)
FRONT = ("total_variance", "predictive_entropy")  # of the short table


def students(runs: dict[str, dict]) -> str:
    """Markdown: for each data set the floor, and each student's Pearson correlation, equivalent passes and scale.

    runs: {name: metrics}, all of one teacher.
    """
    sets = next(iter(runs.values()))["agreement"]
    lines = ["| | " + " | ".join(MEASURE_NAMES[m] for m in MEASURES) + " |", "|---" * (len(MEASURES) + 1) + "|"]
    for dataset, frame in sets.items():
        lines.append(f"| **{dataset}**: floor, one softmax | " + " | ".join(number(frame[m]["floor_pearson"]) for m in MEASURES) + " |")
        for name, run in runs.items():
            cells = [f"{cell(run['agreement'][dataset][m])}, ×{run['agreement'][dataset][m]['scale']:.2f}" for m in MEASURES]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def short(runs: dict[str, dict]) -> str:
    """Markdown: correlation and equivalent passes of two measures, on the in-distribution set and on the first OOD set.

    runs: {name: metrics}, all of one teacher.
    """
    sets = dict(list(next(iter(runs.values()))["agreement"].items())[:2])
    columns = [(dataset, m) for dataset in sets for m in FRONT]
    head = [f"{dataset}: {MEASURE_NAMES[m].split(' (')[0]}" for dataset, m in columns]
    lines = ["| correlation with the teacher: **equivalent passes** | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    lines.append("| reported by Truong 2019, of his own teacher (he does not name the measure) | " + " | | ".join(REPORTED) + " | |")
    lines.append("| one softmax without dropout | " + " | ".join(number(sets[d][m]["floor_pearson"]) for d, m in columns) + " |")
    for name, run in runs.items():
        lines.append(f"| {name} | " + " | ".join(cell(run["agreement"][d][m]) for d, m in columns) + " |")
    return "\n".join(lines)


def cell(entry: dict) -> str:
    """Correlation with the teacher, and its equivalent passes."""
    return f"{number(entry['pearson'])}: **{passes(entry)}**"
