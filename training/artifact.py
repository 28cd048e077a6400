"""Files that a run keeps: written whole or not at all, checked when read. Tensors with metadata in one safetensors
file; JSON; text."""

import glob
import hashlib
import json
import math
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from configs.errors import UserError

ORPHAN_S = 24 * 3600.0  # age of a temporary file whose process was killed


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, which replaces `path` at the end: a reader sees the old file or the new one.

    Each call has its own temporary file. Raises UserError if the system cannot write; the old file then stays.
    """
    if not path.name:
        raise UserError(f"{path}: is a folder, not a file to write")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for orphan in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            with suppress(FileNotFoundError):  # another process may have just renamed it
                if time.time() - orphan.stat().st_mtime > ORPHAN_S:
                    orphan.unlink()
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def checksum(tensors: dict[str, Tensor], *texts: str) -> str:
    """SHA-256 over names, types, shapes and bytes, and `texts` (16 hex digits)."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    digest.update("".join(texts).encode())
    return digest.hexdigest()[:16]


def save(path: Path, kind: str, tensors: dict[str, Tensor], metadata: dict, dtype: str = "float32") -> None:
    """Write tensors and JSON-able metadata.

    kind: the kind of file, which `load` checks. dtype: the type in which float32 tensors are stored.
    Raises UserError for a number that is too large for float16, and if the system cannot write.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if dtype == "float16":
        tensors = {name: tensor.half() if tensor.dtype == torch.float32 else tensor for name, tensor in tensors.items()}
        if large := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
            raise UserError(f"{path}: {large[0]} is too large for float16; set weights: float32")
    owners = {*{t.untyped_storage().data_ptr(): name for name, t in tensors.items()}.values()}
    tensors = {name: t if name in owners else t.clone() for name, t in tensors.items()}  # tied weights share memory
    text = json.dumps(metadata)
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"kind": kind, "metadata": text, "sha256": checksum(tensors, kind, text)})
        os.umask(mask := os.umask(0))
        temporary.chmod(0o666 & ~mask)  # safetensors lets nobody else read


def load(path: Path, kind: str) -> tuple[dict[str, Tensor], dict]:
    """Tensors and metadata. Raises UserError if any bit of them is not what was written, or if the file is of another
    kind."""
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path}: you have no permission to read it")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
    except (SafetensorError, OSError, UnicodeError) as error:
        raise UserError(f"{path}: truncated or damaged ({error}); delete it to make it again") from None
    if not {"kind", "metadata", "sha256"} <= header.keys():
        raise UserError(f"{path}: not made by this version of the project; make it again (--overwrite)")
    if checksum(tensors, header["kind"], header["metadata"]) != header["sha256"]:
        raise UserError(f"{path}: altered since it was written (checksum differs); delete it to make it again")
    if header["kind"] != kind:
        raise UserError(f"{path}: this file holds a {header['kind']}, not a {kind}")
    return tensors, json.loads(header["metadata"])


def write_text(path: Path, text: str) -> None:
    """Write a text file. Raises UserError if the system cannot write."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")


def write_json(path: Path, value: Any) -> Any:
    """Write nested values, and return them as they were written: an undefined number (a correlation with a constant)
    becomes None, JSON's null. Raises UserError if the system cannot write."""
    value = without_nan(value)
    write_text(path, json.dumps(value, indent=1, allow_nan=False, default=float) + "\n")
    return value


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote. Raises UserError, with the path, if the file is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: missing or damaged ({error}); delete it to make it again") from None


def without_nan(value: Any) -> Any:
    """Nested values in which None replaces numbers that are not finite."""
    if isinstance(value, dict):
        return {key: without_nan(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
