"""Tables of several students of one teacher. The README begins with the short one, which has the results that Truong
2019 reports."""

from plots.style import INFORMATION, MEASURE_NAMES, TRUONG, markdown, passes
from plots.table import number

REPORTED = ("0.6", "0.4")  # correlations in distribution and out of it (truongbuu 2019)
MEASURES = (*TRUONG, *INFORMATION)
FRONT = ("total_variance", "predictive_entropy")  # of the short table


def students(runs: dict[str, dict]) -> str:
    """Markdown: for each data set the baseline, and each student's Pearson correlation, equivalent passes and scale.

    runs: {name: metrics}, all of one teacher.
    """
    rows = []
    for dataset, frame in next(iter(runs.values()))["agreement"].items():
        rows.append(
            [f"**{dataset}**: baseline, one softmax", *(number(frame[m]["baseline_pearson"]) for m in MEASURES)]
        )
        for name, run in runs.items():
            entries = [run["agreement"][dataset][m] for m in MEASURES]
            rows.append([name, *(f"{cell(entry)}, ×{entry['scale']:.2f}" for entry in entries)])
    return markdown(["", *(MEASURE_NAMES[m] for m in MEASURES)], rows)


def short(runs: dict[str, dict]) -> str:
    """Markdown: correlation and equivalent passes of two measures, on the in-distribution set and on the first OOD set.

    runs: {name: metrics}, all of one teacher.
    """
    sets = dict(list(next(iter(runs.values()))["agreement"].items())[:2])
    columns = [(dataset, m) for dataset in sets for m in FRONT]
    head = [f"{dataset}: {MEASURE_NAMES[m].split(' (')[0]}" for dataset, m in columns]
    rows = [
        ["reported by Truong 2019, of his own teacher (he does not name the measure)", REPORTED[0], "", REPORTED[1], ""]
    ]
    rows.append(["one softmax without dropout", *(number(sets[d][m]["baseline_pearson"]) for d, m in columns)])
    for name, run in runs.items():
        rows.append([name, *(cell(run["agreement"][d][m]) for d, m in columns)])
    return markdown(["correlation with the teacher: **equivalent passes**", *head], rows)


def cell(entry: dict) -> str:
    """Correlation with the teacher, and its equivalent passes."""
    return f"{number(entry['pearson'])}: **{passes(entry)}**"
