"""A run: the folder of one experiment, its log, and what its scripts need to know of the machine."""

import json
import platform
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from configs.schema import Config
from training import artifact, process_group
from training.errors import UserError


class Run:
    """The folder `<runs>/<name>`, where each script finds what the ones before it made:

    config.yaml, teacher.safetensors, mc_samples/, student.safetensors, metrics.json, plots/, log.txt.
    """

    def __init__(self, config: Config, stage: str, overwrite: bool = False):
        self.config = config
        self.stage = stage
        self.overwrite = overwrite
        self.folder = Path(config.runs) / config.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.source = Path(config.runs) / (config.teacher_of or config.name)  # where teacher and samples are
        self.device = choose_device(config.device)
        self.dtype = choose_dtype(config.dtype, self.device)
        self._events = None
        self.log(f"{' '.join(sys.argv)} (torch {torch.__version__}, {self.device}, {self.dtype})")

    def __truediv__(self, name: str) -> Path:
        """`run / "metrics.json"` is a path in the run's folder."""
        return self.folder / name

    def log(self, message: str) -> None:
        """Print a line above any progress bar and append it to log.txt: of several processes, the first one alone."""
        if not process_group.is_first():
            return
        tqdm.write(f"[{self.stage}] {message}")
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

    def autocast(self) -> AbstractContextManager:
        """Arithmetic of the networks: bfloat16 autocast, or float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16")

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
                self.require_same(path, artifact.read_metadata(path)["settings"], settings)
        self.save_config()
        if (self / file).exists():
            self.log(f"{file} is done already: skipped (--overwrite starts anew)")
            return True
        return False

    def require_same(self, path: Path, there: dict[str, Any], asked: dict[str, Any]) -> None:
        """Raise UserError if the settings that made `path` are not those asked for."""
        if differs := difference(there, asked):
            raise UserError(
                f"{path} was made with other settings ({differs}); make it anew with --overwrite, use another --name, "
                f"or --config {self / 'config.yaml'} to go on with those"
            )

    def save_config(self) -> None:
        """Write the settings of this call to config.yaml."""
        if not process_group.is_first():
            return
        plain = json.loads(json.dumps(asdict(self.config)))  # jsonargparse's restricted numbers are subclasses, which YAML refuses
        (self / "config.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))

    def provenance(self, data: dict[str, str]) -> dict[str, Any]:
        """What made a result: command, commit, seed, device, versions and fingerprints of the data."""
        packages = ("torch", "torchvision", "numpy", "scipy", "scikit-learn")
        return {
            "command": " ".join(["python", *sys.argv]),
            "commit": commit(),
            "seed": self.config.seed,
            "device": f"{device_name(self.device)}, {torch.get_num_threads()} threads, {self.dtype}",
            "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
            "data": data,
        }


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


def choose_device(device: str) -> torch.device:
    """The device of that name; `auto` takes a GPU if there is one, each process its own. Raises UserError if there is no such device."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and torch.cuda.is_available():
        return process_group.own_gpu()
    if device.startswith("cuda:") and process_group.world_size() > 1:
        raise UserError(f"device: {device} is one GPU for {process_group.world_size()} processes: set cuda, and each takes its own")
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device: {device!r} cannot be used here ({str(error).splitlines()[0]})") from None


def choose_dtype(dtype: str, device: torch.device) -> str:
    """The arithmetic of that name; `auto` is bfloat16 where the hardware has it."""
    if dtype != "auto":
        return dtype
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    has = torch.cpu.get_capabilities()
    return "bfloat16" if has.get("avx512_bf16") or has.get("amx_bf16") else "float32"


def device_name(device: torch.device) -> str:
    """The processor's own name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or "CPU"


def commit() -> str:
    """The commit of the code, marked `+changes` if the tracked files differ from it; `unknown` outside a repository."""
    here = Path(__file__).parent
    try:
        revision = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changes = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return revision.stdout.strip() + ("+changes" if changes.stdout.strip() else "")
