"""What the measurements share: ratios of times of the same round, and a JSON file for each measurement."""

import json
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from training.compute import choose
from training.run import commit
from uncertainty.speed import Seconds, in_turn

RESULTS = Path(__file__).parent / "results"

COMPUTE = choose("auto", "auto")


def fastest(works: dict[int, Callable[[], Any]], title: str) -> int:
    """The batch size that takes the least time: the best of two calls of each, after one to warm up."""
    seconds = in_turn({str(size): work for size, work in works.items()}, 2, title)
    return min(works, key=lambda size: min(seconds[str(size)]))


def ratio(seconds: Seconds, above: str, below: str) -> list[float]:
    """One work's time over another's, round by round."""
    return [a / b for a, b in zip(seconds[above], seconds[below])]


def middle(values: list[float]) -> dict[str, Any]:
    """The median, the extremes, and all values."""
    return {"median": median(values), "low": min(values), "high": max(values), "all": values}


def write(name: str, ratios: dict[str, list[float]], **others: Any) -> None:
    """Write speed/results/<name>.json: the medians of `ratios`, their spread, the other results, and the machine."""
    record = {
        "ratios": {key: median(values) for key, values in ratios.items()},
        "spread": {key: middle(values) for key, values in ratios.items()},
        "machine": {
            "command": f"python -m speed.{name} {' '.join(sys.argv[1:])}".strip(),
            "commit": commit(),
            "device": str(COMPUTE),
            "versions": {"python": platform.python_version(), "torch": version("torch"), "numpy": version("numpy")},
        },
        **others,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(
        "\n".join(
            f"{key:40s} {median(values):8.2f}  ({min(values):.2f}-{max(values):.2f})" for key, values in ratios.items()
        )
    )
