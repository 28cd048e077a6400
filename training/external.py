"""Code from outside this project: a callable in the user's own file, such as `my_models.py:make`."""

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from configs.errors import UserError

ROOT = Path(__file__).parents[1]


def is_external(name: str) -> bool:
    """Whether a name is that of an external callable."""
    return ":" in name


def digest_of(path: Path) -> str:
    """SHA-256 of a file. Raises UserError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def digest_of_code(name: str) -> str | None:
    """The digest (16 hex digits) of the user's file; None for a network of torchvision."""
    return None if name.startswith("torchvision:") else digest_of(file_of(name))[:16]


def file_of(name: str) -> Path:
    """The path of the user's file. Raises UserError if it does not exist."""
    path = Path(name.rpartition(":")[0])
    if not path.is_file():
        raise UserError(f"{name}: no file {path} (looked for from {Path.cwd()})")
    return path


def call(place: str, options: dict) -> Any:
    """Run the file of `file.py:callable`, call the callable with `options`, and return its result.

    The file's code can do anything. It can import modules of its own folder even if this project has modules of the
    same name (`models`, `data`). Raises UserError if there is no such callable, or if the file or the callable fails.
    """
    path, name = file_of(place), place.rpartition(":")[2]
    with imports_from(path.resolve().parent):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise UserError(f"{path}: {type(error).__name__}: {error}") from error
        if not callable(getattr(module, name, None)):
            raise UserError(f"{path}: has no callable {name}")
        return called(getattr(module, name), place, options)


def called(builder: Callable, place: str, options: dict) -> Any:
    """The result of a callable. Raises UserError, with the original message, if it fails."""
    try:
        return builder(**options)
    except Exception as error:
        given = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise UserError(f"{place}({given}): {type(error).__name__}: {error}") from error


@contextmanager
def imports_from(folder: Path) -> Iterator[None]:
    """Within this context `import` looks into `folder` first, also for names that modules of this project have."""
    mine = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    theirs = (
        {name for name in mine if (folder / f"{name}.py").exists() or (folder / name).is_dir()}
        if folder != ROOT
        else set()
    )

    def taken() -> dict:
        return {name: module for name, module in sys.modules.items() if name.split(".")[0] in theirs}

    ours = taken()
    for name in ours:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in taken():  # functions of the user's file keep their references to them
            del sys.modules[name]
        sys.modules.update(ours)
