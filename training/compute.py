"""The device, and the arithmetic of the networks on it."""

import platform
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from configs.errors import UserError
from training import process_group


@dataclass(frozen=True)
class Compute:
    """A device, and float32 or bfloat16 arithmetic of the networks on it."""

    device: torch.device
    dtype: str

    def autocast(self) -> AbstractContextManager:
        """Networks called in this context use the arithmetic `dtype`."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16")

    def __str__(self) -> str:
        name = torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or "CPU"
        if self.device.type == "cuda":
            name = torch.cuda.get_device_name(self.device)
        return f"{name}, {torch.get_num_threads()} threads, {self.dtype}"


def choose_device(device: str) -> torch.device:
    """The device of that name; `auto` takes a GPU if there is one, each process its own. Raises UserError if there is
    no such device."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("mps"):
        raise UserError("device: mps is not supported (it has no float64, and nothing was tested on it); use cpu")
    if device == "cuda" and torch.cuda.is_available():
        return process_group.own_gpu()
    if device.startswith("cuda:") and process_group.world_size() > 1:
        raise UserError(
            f"device: {device} is one GPU for {process_group.world_size()} processes: set cuda, and each uses its own"
        )
    try:
        torch.empty(0, device=device)
        if device.startswith("cuda:"):
            torch.cuda.set_device(device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device: {device!r} cannot be used here ({str(error).splitlines()[0]})") from None


def choose(device: str, dtype: str) -> Compute:
    """The device and the arithmetic of these names; `auto` is bfloat16 where the hardware has it.

    Raises UserError if there is no such device.
    """
    chosen = choose_device(device)
    if dtype == "auto":
        has = torch.cpu.get_capabilities()
        fast = bool(has.get("avx512_bf16") or has.get("amx_bf16"))
        if chosen.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = "bfloat16" if fast else "float32"
    return Compute(chosen, dtype)
