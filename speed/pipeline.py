"""Where the time of a whole run goes: seconds of each stage, and of a training step the share of its parts.

    python -m speed.pipeline

`configs/digits.yaml` is run from its start. Of `configs/cifar10_cpu.yaml` the stages are those of results/cifar10_cpu/metrics.json; an
epoch of each training is measured here, on random images. Writes speed/results/pipeline.json.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import ModuleType
from unittest import mock

import torch

import evaluate
import train_student
import train_teacher
from plots.style import PANELS, counted_worth
from speed.contenders import made_up
from speed.measuring import DEVICE, write
from training.cli import parse
from training.errors import UserError

IMAGES = 12_800
CPU_METRICS = Path("results/cifar10_cpu/metrics.json")
EARLIER = f"eaef08a:{CPU_METRICS}"  # the last commit that had it from before training and sampling were made faster


class Parts:
    """Seconds of a training loop's parts, counted while the real script runs."""

    def __init__(self, script: ModuleType):
        self.seconds = dict.fromkeys(("data", "forward", "backward", "other"), 0.0)
        self.script = script
        self.fit = script.fit

    def timed(self, part: str, function: Callable) -> Callable:
        """The function, its time counted."""

        @wraps(function)
        def call(*arguments, **options):
            started = time.perf_counter()
            result = function(*arguments, **options)
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            self.seconds[part] += time.perf_counter() - started
            return result

        return call

    def watched(self, model, optimizer, count, batch, losses, validate, *rest, **options):
        """`training.loop.fit`, its parts timed; validation is none of them, and left out."""
        backward = mock.patch.object(torch.Tensor, "backward", self.timed("backward", torch.Tensor.backward))
        validation = 0.0

        def check(kept):
            nonlocal validation
            started = time.perf_counter()
            result = validate(kept)
            validation += time.perf_counter() - started
            return result

        with backward:
            progress = self.fit(
                model,
                optimizer,
                count,
                self.timed("data", batch),
                self.timed("forward", losses),
                check if validate else None,
                *rest,
                **options,
            )
        self.seconds["other"] = progress.seconds - validation - sum(self.seconds.values())
        return progress

    def shares(self) -> dict[str, float]:
        """Of a step's time."""
        total = sum(self.seconds.values())
        return {part: value / total for part, value in self.seconds.items()}


def run(options: list[str], scripts: list[ModuleType]) -> dict[str, dict[str, float]]:
    """Run scripts in this process; the shares of the training loops among them."""
    config, _ = parse(options)
    shares = {}
    for script in scripts:
        if script is evaluate:
            script.main(config, overwrite=False)
            continue
        parts = Parts(script)
        with mock.patch.object(script, "fit", parts.watched):
            script.main(config, overwrite=False)
        shares[script.__name__] = parts.shares()
    return shares


def main() -> None:
    """Digits as a whole, and the parts of CIFAR-10's training."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        options = ["--config", "configs/digits.yaml", "--runs", folder]
        shares = run(options, [train_teacher, train_student, evaluate])
        stages = json.loads((Path(folder) / "digits/metrics.json").read_text())["stages_s"]
        found["digits"] = {"stages_s": stages, "shares_of_a_step": shares}
        with made_up(IMAGES):
            options = ["--config", "configs/cifar10_cpu.yaml", "--runs", folder, "--teacher.epochs", "1", "--student.epochs", "1"]
            shares = run([*options, "--sampling.passes", "2"], [train_teacher, train_student])
    metrics = json.loads(CPU_METRICS.read_text())
    earlier = json.loads(subprocess.run(["git", "show", EARLIER], capture_output=True, check=True).stdout)
    if metrics["provenance"] == earlier["provenance"]:
        raise UserError(f"{CPU_METRICS} is still the earlier run's: run configs/cifar10_cpu.yaml again and copy its metrics.json there")
    found["cifar10_cpu"] = {
        "stages_s": metrics["stages_s"],
        "stages": {"from": str(CPU_METRICS), "commit": metrics["provenance"]["commit"], "device": metrics["provenance"]["device"]},
        "shares_of_a_step": shares,
        "teacher_accuracy": metrics["teacher"]["accuracy"],
        "worth_and_earlier_interval": {
            f"{name}: {measure}": [counted_worth(metrics["agreement"][name][measure]), agreement["worth_ci"]]
            for name, measures in earlier["agreement"].items()
            for measure, agreement in measures.items()
            if measure in PANELS
        },
    }
    write("pipeline", {}, **found)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
