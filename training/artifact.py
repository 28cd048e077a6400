"""Files that a run keeps: tensors with metadata in one safetensors file, written whole or not at all, checked when read; and JSON."""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from training.errors import UserError


def checksum(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes (16 hex digits)."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any], dtype: str = "float32") -> None:
    """Write tensors and JSON-able metadata to a temporary file, then rename it: a reader never sees half a file.

    dtype: what float32 tensors become. Raises UserError for a number that float16 cannot hold.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if dtype == "float16":
        tensors = {name: tensor.half() if tensor.dtype == torch.float32 else tensor for name, tensor in tensors.items()}
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise UserError(f"{path}: {name} is too large for float16; set weights: float32")
    temporary = path.with_name(path.name + ".tmp")
    save_file(tensors, temporary, {"metadata": json.dumps(metadata), "checksum": checksum(tensors)})
    os.replace(temporary, path)


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata alone. Raises UserError if the file is truncated or no artifact."""
    _, metadata, _ = _open(path)
    return metadata


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata. Raises UserError if the file is truncated or its content is not what was written."""
    file, metadata, expected = _open(path)
    tensors = {name: file.get_tensor(name) for name in file.keys()}
    if checksum(tensors) != expected:
        raise UserError(f"{path}: altered since it was written (checksum differs); delete it to make it again")
    return tensors, metadata


def _open(path: Path):
    if not path.exists():
        raise UserError(f"{path}: no such file")
    try:
        file = safe_open(path, "pt")
        header = file.metadata()
        return file, json.loads(header["metadata"]), header["checksum"]
    except (SafetensorError, OSError, TypeError, KeyError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: truncated or damaged ({error}); delete it to make it again") from None


def write_json(path: Path, value: Any) -> Any:
    """Write nested values, and return them as they were written: None, JSON's null, for what is not defined (a correlation with a
    constant)."""
    value = without_nan(value)
    path.write_text(json.dumps(value, indent=1, allow_nan=False, default=float) + "\n")
    return value


def without_nan(value: Any) -> Any:
    """Nested values with None in the place of NaN."""
    if isinstance(value, dict):
        return {key: without_nan(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
