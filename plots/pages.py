"""The parts of README.md and of docs/ that are made from results and settings:

    python -m plots.pages

A part stands between `<!-- name -->` and `<!-- end -->`; what is between them is replaced.
"""

import re
from collections.abc import Callable
from pathlib import Path

from methods import options_help
from plots import comparison
from plots.recipes import passes_table
from plots.students import read, short, students
from training.cli import settings_page

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
KINDS = ("_truong2019", "_truong2019_from_teacher", "", "_gaussian")  # of students, beside each other


def beside(name: str) -> dict[str, dict]:
    """The metrics of all students of the run `name`'s teacher."""
    return read([RESULTS / f"{name}{kind}" for kind in KINDS])


def recipes() -> str:
    """Every row of the ablation."""
    return passes_table([record for records in comparison.load(RESULTS / "fidelity").values() for record in records if "failed" not in record])


PARTS: dict[str, Callable[[], str]] = {
    "students": lambda: short(beside("cifar10_cpu")),
    "all students": lambda: students(beside("cifar10_cpu")),
    "digits": lambda: students(beside("digits")),
    "recipes": recipes,
    "methods": lambda: comparison.short(comparison.load(RESULTS / "comparison")),
    "settings": settings_page,
    "options": lambda: f"```\n{options_help()}\n```",
}
PAGES = ("README.md", "docs/results.md", "docs/configs.md")


def made(text: str) -> str:
    """A page with its parts made anew. Raises KeyError for a part that there is not."""
    return re.sub(
        r"<!-- (?!end)(.+?) -->\n.*?<!-- end -->", lambda m: f"<!-- {m[1]} -->\n\n{PARTS[m[1]]()}\n\n<!-- end -->", text, flags=re.DOTALL
    )


if __name__ == "__main__":
    for page in PAGES:
        path = ROOT / page
        path.write_text(made(path.read_text()))
