"""The effect of each choice in a recipe: a table of a comparison on validation images."""

import numpy as np

from plots.style import MEASURE_NAMES, PANELS, markdown


def passes_in(record: dict, measure: str) -> tuple[float, float]:
    """A row's equivalent passes on the validation images, and their mean over the shifts. NaN for a measure that its method lacks."""
    if not all(measure in entry for entry in record["agreement"].values()):
        return np.nan, np.nan
    inside, *shifted = [entry[measure]["equivalent_passes"] or 0.0 for entry in record["agreement"].values()]
    return inside, float(np.mean(shifted))


def passes_table(records: list[dict]) -> str:
    """Markdown: each row's equivalent passes on the validation images, on their shifts, and its mean over the teacher's."""
    names = [MEASURE_NAMES[measure].split(" (")[0] for measure in PANELS]
    rows = []
    for record in records:
        inside = next(iter(record["agreement"].values()))
        cells = [
            "{:.0f}, {:.0f}; ×{:.2f}".format(*passes_in(record, measure), inside[measure]["scale"]) if measure in inside else "-"
            for measure in PANELS
        ]
        rows.append([record["title"], *cells])
    return markdown(["equivalent passes on validation images, on shifts; scale", *names], rows)
