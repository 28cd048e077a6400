"""The class of every data set: its images, in batches, with labels, names and classes."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from torch import Tensor

UNLABELLED = -1
PART = 1024  # images per batch, when all images are read


class Names(Sequence):
    """Texts in one array. In a list each text would take a hundred bytes."""

    def __init__(self, array: np.ndarray, shown: bool = False):
        self.array = array
        self.shown = shown

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Names":
        """Make one from any number of texts, without keeping the texts."""
        texts = iter(texts)
        parts = []
        while part := [text.encode("utf-8", "surrogateescape") for text in islice(texts, PART)]:
            parts.append(cls(np.array(part, "S")))
        return cls.joined(parts)

    @classmethod
    def joined(cls, parts: Sequence["Names"]) -> "Names":
        """Join several into one."""
        return cls(np.concatenate([part.array for part in parts]) if parts else np.array([], "S1"))

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, i: int) -> str:
        text = self.array[i].decode("utf-8", "surrogateescape")
        return text.encode("utf-8", "replace").decode() if self.shown else text

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def subset(self, indices: Tensor) -> "Names":
        """The texts at `indices`."""
        return Names(self.array[indices.numpy()], self.shown)

    def printable(self) -> "Names":
        """The same texts for printing: bytes of a path that are not UTF-8 become ?."""
        return Names(self.array, shown=True)


@dataclass(frozen=True)
class AsTheyCome:
    """Images that are read on demand. read(i): image i, uint8 [H, W, C]. shape: [N, H, W, C]. key: a text that
    identifies the images."""

    read: Callable[[int], Tensor]
    shape: torch.Size
    key: str

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: Tensor) -> Tensor:
        return torch.stack([self.read(i) for i in indices.tolist()])


@dataclass(frozen=True)
class Dataset:
    """Images with their labels, names and classes.

    pixels: uint8 [M, H, W, C], in memory, mapped from a file, or read on demand. labels: int64 [N], -1 if there is
    none. names: one for each image. classes: a name for each label. order [N]: the indices in `pixels` of this set's
    images; None: all of them.
    """

    name: str
    pixels: Tensor | AsTheyCome
    labels: Tensor
    names: Sequence[str]
    classes: list[str]
    order: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """[H, W, C] of an image."""
        return tuple(self.pixels.shape[1:])

    @property
    def workers(self) -> bool:
        """Whether worker processes should make batches ahead of use."""
        return isinstance(self.pixels, AsTheyCome)

    def batch(self, indices: Tensor) -> Tensor:
        """uint8 [B, H, W, C]: the images at `indices`, on the CPU."""
        return self.pixels[indices if self.order is None else self.order[indices]]

    def parts(self) -> Iterator[Tensor]:
        """All images, batch by batch."""
        return (self.batch(indices) for indices in torch.arange(len(self)).split(PART))

    @cached_property
    def images(self) -> Tensor:
        """All images as one tensor. For evaluation sets only: a training set may be larger than memory."""
        return (
            self.pixels
            if self.order is None and isinstance(self.pixels, Tensor)
            else self.batch(torch.arange(len(self)))
        )

    def subset(self, indices: Tensor) -> "Dataset":
        """The images at `indices`, in that order, without copying them."""
        names = (
            self.names.subset(indices) if isinstance(self.names, Names) else [self.names[i] for i in indices.tolist()]
        )
        order = indices if self.order is None else self.order[indices]
        return replace(self, labels=self.labels[indices], names=names, order=order)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of pixels and labels (16 hex digits): equal if and only if the data are. If images are read on
        demand, their `key` replaces the pixels (for image folders it covers the files' names, sizes and times)."""
        digest = hashlib.sha256(str((len(self), *self.shape)).encode())
        if isinstance(self.pixels, AsTheyCome):
            digest.update(self.pixels.key.encode())
            digest.update(b"" if self.order is None else self.order.numpy())
        else:
            for part in self.parts():
                digest.update(part.contiguous().numpy())
        digest.update(self.labels.contiguous().numpy())
        return digest.hexdigest()[:16]
