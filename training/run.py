"""A run: the folder of one experiment, and its log."""

import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from configs.errors import UserError
from configs.schema import Config
from training import artifact, process_group
from training.bar import note
from training.compute import Compute, choose


class Run:
    """The folder of one experiment, where each script finds the files of the earlier ones:

    config.yaml, teacher.safetensors, mc_samples/, student.safetensors, reference/, metrics.json, plots/, log.txt.
    """

    def __init__(self, folder: Path, stage: str, begins: str):
        self.folder = folder
        self.stage = stage
        self.begins = begins  # the line of a stage that begins

    def __truediv__(self, name: str) -> Path:
        """`run / "metrics.json"` is a path in the run's folder."""
        return self.folder / name

    def log(self, message: str) -> None:
        """Print a line above any progress bar and append it to log.txt. Only the first of several processes does so."""
        if not process_group.is_first():
            return
        note(f"[{self.stage}] {message}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self / "log.txt", "a", encoding="utf-8", errors="replace") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} [{self.stage}] {message}\n")
        except OSError as error:
            raise UserError(f"{self / 'log.txt'}: cannot be written ({error.strerror})") from None

    @property
    def checkpoint(self) -> Path:
        """The state of an unfinished training of this stage."""
        return self / f"checkpoints/{self.stage}.safetensors"

    def finished(self, file: str, settings: dict, overwrite: bool) -> bool:
        """Whether this stage has written `file`; the log says so in one line, or that the stage begins. With
        `overwrite`, a file or a checkpoint of other settings, which an interrupted --overwrite has left, is deleted.

        Raises UserError, and changes no file, if the stage was run, or begun, with other settings, or if its file is
        damaged.
        """
        for path, kind in ((self / file, self.stage), (self.checkpoint, "checkpoint")):
            try:
                if path.exists():
                    require_same(path, artifact.load(path, kind)[1]["settings"], settings, self.folder)
            except UserError:
                if not overwrite:
                    raise
                path.unlink(missing_ok=True)
            if (self / file).exists():
                self.log(f"{self / file} is done already: skipped (--overwrite starts anew)")
                return True
        self.log(self.begins)
        return False

    def save_config(self, config: Config) -> None:
        """Write the settings of this call to config.yaml."""
        if process_group.is_first():
            artifact.write_text(self / "config.yaml", yaml.safe_dump(asdict(config), sort_keys=False))


@contextmanager
def made_anew(outputs: list[Path], overwrite: bool) -> Iterator[None]:
    """With `overwrite`, outputs of an earlier command (files or folders; the last one is written last) are moved to
    <name>.old while this context makes new ones, and put back if it fails.

    After Ctrl-C or a kill, the same command continues; one without `overwrite` puts the old outputs back.
    """
    old = {path: path.with_name(f"{path.name}.old") for path in outputs}

    def put_back() -> None:
        for path, kept in old.items():
            if kept.exists():
                remove(path)
                kept.rename(path)

    first = process_group.is_first()
    if first:
        if outputs[-1].exists():  # the command before this one was killed at its very end, if there are old ones
            for kept in old.values():
                remove(kept)
        begun = any(kept.exists() for kept in old.values())
        if begun and not overwrite:
            put_back()
        for path, kept in old.items():
            if overwrite and not begun and path.exists():
                path.rename(kept)
    process_group.barrier()
    try:
        yield
    except Exception:
        if first and overwrite:
            put_back()
        raise
    if first:
        for kept in old.values():
            remove(kept)


def missing(path: Path, first: str) -> UserError:
    """The error for an output that is not there; it names the one that an interrupted `made_anew` has moved away."""
    kept = path.with_name(f"{path.name}.old")
    old = f"an --overwrite was interrupted, and the same script without it puts {kept.name} back; or "
    return UserError(f"{path}: no such file; {old if kept.exists() else ''}{first}")


def remove(path: Path) -> None:
    """Delete a file or a folder, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def begin(config: Config, stage: str, what: str = "") -> tuple[Run, Compute]:
    """The run of a script, and its device and arithmetic. A stage that begins logs the command, after `what` it is."""
    compute = choose(config.device, config.dtype)
    command = f"{' '.join(sys.argv)} (torch {torch.__version__}, {compute.device}, {compute.dtype})"
    return Run(config.folder, stage, what + command), compute


def made_by(device: str) -> dict[str, str]:
    """Where a result comes from: command, commit and device."""
    return {"command": shlex.join(["python", *sys.orig_argv[1:]]), "commit": commit(), "device": device}


def provenance(seed: int, compute: Compute, sets: list[Any]) -> dict:
    """The origin of a result: command, commit, seed, device, versions and fingerprints of the data."""
    packages = ("torch", "torchvision", "numpy", "scipy", "scikit-learn")
    return made_by(str(compute)) | {
        "seed": seed,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "data": {dataset.name: dataset.fingerprint for dataset in sets},
    }


def require_same(path: Path, there: dict, asked: dict, folder: Path) -> None:
    """Raise UserError if the settings that made `path`, a file of the run in `folder`, are not those asked for."""
    if differs := difference(there, asked):
        raise UserError(
            f"{path} was made with other settings ({differs}); make it anew with --overwrite, use another --name, "
            f"or --config {folder / 'config.yaml'} to continue with those settings"
        )


def difference(there: dict, asked: dict, prefix: str = "") -> str:
    """The differences between two nested dictionaries, as `key: a there, b asked for`; empty if there are none.

    A setting that only one of them has, since it is newer or gone, is the same as one that is off (False or None).
    """
    parts = []
    for key in sorted(there.keys() | asked.keys()):
        a, b = there.get(key), asked.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            parts.append(difference(a, b, f"{prefix}{key}."))
        elif a != b and (key in there and key in asked or (a or b) not in (False, None)):
            parts.append(f"{prefix}{key}: {a} there, {b} asked for")
    return "; ".join(filter(None, parts))


def commit() -> str:
    """The commit of the code, marked `+changes` if the tracked files differ from it; `unknown` outside a repository."""
    command = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+changes"]
    try:
        described = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()
