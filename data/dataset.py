"""What every data set is: its length, and batches of its images."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from torch import Tensor

UNLABELLED = -1
PART = 1024  # images at once, where all are gone through


class Names(Sequence):
    """Texts in one array: as a list they would take a hundred bytes each."""

    def __init__(self, array: np.ndarray, shown: bool = False):
        self.array = array
        self.shown = shown

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Names":
        """Those of any number of texts, which are not kept."""
        texts = iter(texts)
        parts = []
        while part := [text.encode("utf-8", "surrogateescape") for text in islice(texts, PART)]:
            parts.append(cls(np.array(part, "S")))
        return cls.joined(parts)

    @classmethod
    def joined(cls, parts: Sequence["Names"]) -> "Names":
        """One after the other."""
        return cls(np.concatenate([part.array for part in parts]) if parts else np.array([], "S1"))

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, i: int) -> str:
        text = self.array[i].decode("utf-8", "surrogateescape")
        return text.encode("utf-8", "replace").decode() if self.shown else text

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def subset(self, indices: Tensor) -> "Names":
        """Those at `indices`."""
        return Names(self.array[indices.numpy()], self.shown)

    def printable(self) -> "Names":
        """The same, with ? for bytes that are no UTF-8, which paths keep."""
        return Names(self.array, shown=True)


@dataclass(frozen=True)
class AsTheyCome:
    """Images that are read when they are asked for. read: of image i, uint8 [H, W, C]. shape: [N, H, W, C]. key: what decides them."""

    read: Callable[[int], Tensor]
    shape: torch.Size
    key: str

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: Tensor) -> Tensor:
        return torch.stack([self.read(i) for i in indices.tolist()])


@dataclass(frozen=True)
class Dataset:
    """Images and what is known of them.

    pixels: uint8 [M, H, W, C], in memory, mapped from a file, or as they come. labels: int64 [N], -1 where there are none. names: one for
    each image. classes: by label. order: which of the pixels' images are this set's, [N]; None: all.
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
        """Whether batches are worth making by processes of their own, ahead of use."""
        return isinstance(self.pixels, AsTheyCome)

    def batch(self, indices: Tensor) -> Tensor:
        """uint8 [B, H, W, C]: the images at `indices`, on the CPU."""
        return self.pixels[indices if self.order is None else self.order[indices]]

    def parts(self) -> Iterator[Tensor]:
        """All images, batch by batch."""
        return (self.batch(indices) for indices in torch.arange(len(self)).split(PART))

    @cached_property
    def images(self) -> Tensor:
        """All images as one tensor, for sets that are evaluated: those for training need not fit into memory."""
        return self.pixels if self.order is None and isinstance(self.pixels, Tensor) else self.batch(torch.arange(len(self)))

    def subset(self, indices: Tensor) -> "Dataset":
        """The images at `indices`, in that order, which are not copied."""
        names = self.names.subset(indices) if isinstance(self.names, Names) else [self.names[i] for i in indices.tolist()]
        order = indices if self.order is None else self.order[indices]
        return replace(self, labels=self.labels[indices], names=names, order=order)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of pixels and labels (16 hex digits): equal if and only if the data are. Of images that come when they are asked for: of
        what decides them, their files' names, sizes and times."""
        digest = hashlib.sha256(str((len(self), *self.shape)).encode())
        if isinstance(self.pixels, AsTheyCome):
            digest.update(self.pixels.key.encode())
            digest.update(b"" if self.order is None else self.order.numpy())
        else:
            for part in self.parts():
                digest.update(part.contiguous().numpy())
        digest.update(self.labels.contiguous().numpy())
        return digest.hexdigest()[:16]
