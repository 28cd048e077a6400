"""Seeds for independent random streams."""

import hashlib


def seed_of(*parts: str | int) -> int:
    """A 63-bit seed made of `parts`: different parts give unrelated streams, equal parts the same one."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little") >> 1
