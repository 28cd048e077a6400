"""What the measurements share: works run in turn, ratios of times of the same round, and a JSON file for each measurement."""

import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from training.compute import choose
from training.run import commit

RESULTS = Path(__file__).parent / "results"
Seconds = dict[str, list[float]]  # of each work, in the order of the rounds

COMPUTE = choose("auto", "auto")


def seconds_of(work: Callable[[], Any]) -> float:
    """Seconds of one call of `work`, including its work on a GPU."""
    started = time.perf_counter()
    work()
    if COMPUTE.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def in_turn(works: dict[str, Callable[[], Any]], rounds: int, title: str) -> Seconds:
    """Run the works in turn, A B C A B C ..., so that other load affects all alike. A first round warms up and is not counted."""
    seconds: Seconds = {name: [] for name in works}
    with tqdm(desc=title, total=(rounds + 1) * len(works), unit="work") as bar:
        for turn in range(rounds + 1):
            for name, work in works.items():
                taken = seconds_of(work)
                if turn:
                    seconds[name].append(taken)
                bar.update()
    return seconds


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
    print("\n".join(f"{key:40s} {median(values):8.2f}  ({min(values):.2f}-{max(values):.2f})" for key, values in ratios.items()))
