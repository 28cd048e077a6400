"""The effect of each choice in a recipe: tables of a comparison on validation images."""

import numpy as np

from plots.style import MEASURE_NAMES, PANELS, markdown


def passes_in(record: dict, measure: str) -> tuple[float, float]:
    """A row's equivalent passes on the validation images, and their mean over the shifts. NaN for a measure that its
    method lacks."""
    if not all(measure in entry for entry in record["agreement"].values()):
        return np.nan, np.nan
    inside, *shifted = [entry[measure]["equivalent_passes"] or 0.0 for entry in record["agreement"].values()]
    return inside, float(np.mean(shifted))


def passes_table(records: list[dict]) -> str:
    """Markdown: each row's equivalent passes on the validation images, on their shifts, and its mean over the
    teacher's."""
    names = [MEASURE_NAMES[measure].split(" (")[0] for measure in PANELS]
    rows = []
    for record in records:
        inside = next(iter(record["agreement"].values()))
        cells = [
            "{:.0f}, {:.0f}; ×{:.2f}".format(*passes_in(record, measure), inside[measure]["scale"])
            if measure in inside
            else "-"
            for measure in PANELS
        ]
        rows.append([record["title"], *cells])
    return markdown(["equivalent passes on validation images, on shifts; scale", *names], rows)


def teachers_table(records: list[dict]) -> str:
    """Markdown: each teacher's quality, and how well two scores tell its errors and shifted images (mean over the
    shifts) apart."""
    scores = ("predictive_entropy", "mutual_information")
    rows = []
    for record in records:
        quality = [f"{record['before'][score]:.3f}" for score in ("accuracy", "nll", "ece")]
        sets = [record["errors"]], record["ood"].values()
        aurocs = [[found[score]["auroc"] for found in of if score in found] for of in sets for score in scores]
        rows.append([record["title"], *quality, *(f"{np.mean(values):.3f}" if values else "-" for values in aurocs)])
    names = [
        f"{told}: {MEASURE_NAMES[score].split(' (')[0]}"
        for told in ("AUROC of errors", "of shifted images")
        for score in scores
    ]
    return markdown(["teacher", "accuracy", "NLL", "ECE", *names], rows)
