"""The class of every data set: its images, in batches, with labels, names and classes."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from configs.errors import UserError
from configs.schema import Shape

Split = Literal["train", "test"]
UNLABELLED = -1
PART = 1024  # images per batch, when all images are read


def class_names(classes: Iterable) -> list[str]:
    """The classes as texts. Raises UserError if two are equal: results are told apart by them."""
    names = list(map(str, classes))
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two classes are called {twice!r}; give each a name of its own")
    return names


@dataclass(frozen=True)
class LazyPixels:
    """Images that are read on demand. read(i): image i, uint8 [H, W, C]. shape: [N, H, W, C]. key: identifies the
    images."""

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
    pixels: Tensor | LazyPixels
    labels: Tensor
    names: list[str]
    classes: list[str]
    order: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> Shape:
        """[H, W, C] of an image."""
        return tuple(self.pixels.shape[1:])

    @property
    def lazy(self) -> bool:
        """Whether images are read on demand, so that worker processes should make batches before they are needed."""
        return isinstance(self.pixels, LazyPixels)

    def batch(self, indices: Tensor) -> Tensor:
        """uint8 [B, H, W, C]: the images at `indices`, on the CPU."""
        return self.pixels[indices if self.order is None else self.order[indices]]

    def parts(self) -> Iterator[Tensor]:
        """All images, batch by batch."""
        return (self.batch(indices) for indices in torch.arange(len(self)).split(PART))

    @cached_property
    def images(self) -> Tensor:
        """All images as one tensor. For evaluation sets only: a training set may be larger than memory."""
        return self.pixels if self.order is None and not self.lazy else self.batch(torch.arange(len(self)))

    def digests(self) -> list[bytes]:
        """The SHA-256 of each image's pixels."""
        return [hashlib.sha256(image.contiguous().numpy()).digest() for part in self.parts() for image in part]

    def subset(self, indices: Tensor) -> "Dataset":
        """The images at `indices`, in that order, without copying them."""
        names = [self.names[i] for i in indices.tolist()]
        order = indices if self.order is None else self.order[indices]
        return replace(self, labels=self.labels[indices], names=names, order=order)

    def joined(self, other: "Dataset", times: int) -> "Dataset":
        """These images, and `times` times those of another subset of the same set."""
        places = [torch.arange(len(of.pixels)) if of.order is None else of.order for of in (self, other)]
        order, labels = (torch.cat([a, b.repeat(times)]) for a, b in (places, (self.labels, other.labels)))
        return replace(self, labels=labels, names=self.names + times * other.names, order=order)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of pixels and labels (16 hex digits): equal if and only if the data are. If images are read on
        demand, their `key` replaces the pixels (for image folders it covers the files' names, sizes and times)."""
        digest = hashlib.sha256(str((len(self), *self.shape)).encode())
        if self.lazy:
            digest.update(self.pixels.key.encode())
            digest.update(b"" if self.order is None else self.order.numpy())
        else:
            for part in self.parts():
                digest.update(part.contiguous().numpy())
        digest.update(self.labels.contiguous().numpy())
        return digest.hexdigest()[:16]
