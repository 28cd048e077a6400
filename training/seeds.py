"""Seeds for independent random streams."""

import hashlib

import torch


def seed_of(*parts: str | int) -> int:
    """A 63-bit seed made of `parts`: different parts give unrelated streams, equal parts the same one."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little") >> 1


def permutation(count: int, seed: int) -> torch.Tensor:
    """The indices of `count` images in a random order."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))
