"""A run: the folder of one experiment, and its log."""

import json
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from configs.schema import Config
from training import artifact, process_group
from training.compute import Compute, choose
from training.errors import UserError


class Run:
    """The folder of one experiment, where each script finds what the ones before it made:

    config.yaml, teacher.safetensors, mc_samples/, student.safetensors, metrics.json, plots/, log.txt.
    """

    def __init__(self, folder: Path, stage: str, overwrite: bool = False):
        self.folder = folder
        self.stage = stage
        self.overwrite = overwrite
        self._events = None

    def __truediv__(self, name: str) -> Path:
        """`run / "metrics.json"` is a path in the run's folder."""
        return self.folder / name

    def log(self, message: str) -> None:
        """Print a line above any progress bar and append it to log.txt: of several processes, the first one alone."""
        if not process_group.is_first():
            return
        tqdm.write(f"[{self.stage}] {message}")
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self / "log.txt", "a") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} [{self.stage}] {message}\n")

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """TensorBoard events in the run's folder, if tensorboard is installed."""
        if self._events is None and process_group.is_first():
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                self._events = False
                return
            self._events = SummaryWriter(self / "events")
        if self._events:
            for name, value in values.items():
                self._events.add_scalar(f"{self.stage}/{name}", value, step)
            self._events.flush()

    @property
    def checkpoint(self) -> Path:
        """The state of an unfinished training of this stage."""
        return self / f"checkpoints/{self.stage}.safetensors"

    def finished(self, file: str, settings: dict[str, Any]) -> bool:
        """Whether this stage has written `file`; with `overwrite`, what it wrote is deleted first.

        Raises UserError if the stage was run, or begun, with other settings, and leaves everything as it is.
        """
        for path in (self / file, self.checkpoint):
            if self.overwrite:
                path.unlink(missing_ok=True)
            if path.exists():
                require_same(path, artifact.read_metadata(path)["settings"], settings, self.folder)
        if (self / file).exists():
            self.log(f"{file} is done already: skipped (--overwrite starts anew)")
            return True
        return False

    def save_config(self, config: Config) -> None:
        """Write the settings of this call to config.yaml."""
        if not process_group.is_first():
            return
        plain = json.loads(json.dumps(asdict(config)))  # jsonargparse's restricted numbers are subclasses, which YAML refuses
        self.folder.mkdir(parents=True, exist_ok=True)
        (self / "config.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))


def begin(config: Config, stage: str, overwrite: bool = False) -> tuple[Run, Compute]:
    """The run of a script and what it computes on; the first line of its log is the command."""
    run, compute = Run(config.folder, stage, overwrite), choose(config.device, config.dtype)
    run.log(f"{' '.join(sys.argv)} (torch {torch.__version__}, {compute.device}, {compute.dtype})")
    return run, compute


def provenance(config: Config, compute: Compute, data: dict[str, str]) -> dict[str, Any]:
    """What made a result: command, commit, seed, device, versions and fingerprints of the data."""
    packages = ("torch", "torchvision", "numpy", "scipy", "scikit-learn")
    return {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit(),
        "seed": config.seed,
        "device": str(compute),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "data": data,
    }


def require_same(path: Path, there: dict[str, Any], asked: dict[str, Any], folder: Path) -> None:
    """Raise UserError if the settings that made `path`, a file of the run in `folder`, are not those asked for."""
    if differs := difference(there, asked):
        raise UserError(
            f"{path} was made with other settings ({differs}); make it anew with --overwrite, use another --name, "
            f"or --config {folder / 'config.yaml'} to go on with those"
        )


def difference(there: dict[str, Any], asked: dict[str, Any], prefix: str = "") -> str:
    """What differs between two nested dictionaries, as `key: a there, b asked for`; empty if nothing does."""
    parts = []
    for key in sorted(there.keys() | asked.keys()):
        a, b = there.get(key), asked.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            parts.append(difference(a, b, f"{prefix}{key}."))
        elif a != b:
            parts.append(f"{prefix}{key}: {a} there, {b} asked for")
    return "; ".join(filter(None, parts))


def commit() -> str:
    """The commit of the code, marked `+changes` if the tracked files differ from it; `unknown` outside a repository."""
    here = Path(__file__).parent
    try:
        revision = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changes = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return revision.stdout.strip() + ("+changes" if changes.stdout.strip() else "")
