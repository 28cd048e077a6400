"""What every data set is, once loaded."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

UNLABELLED = -1


@dataclass(frozen=True)
class Dataset:
    """Images and what is known of them.

    images: uint8 [N, H, W, C]. labels: int64 [N], -1 where there are none. names: one for each image. classes: by label.
    """

    name: str
    images: Tensor
    labels: Tensor
    names: list[str]
    classes: list[str]

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Tensor) -> "Dataset":
        """The images at `indices`, in that order."""
        names = [self.names[i] for i in indices.tolist()]
        return Dataset(self.name, self.images[indices], self.labels[indices], names, self.classes)

    def to(self, device: torch.device) -> "Dataset":
        """The same with images and labels on `device`."""
        return Dataset(self.name, self.images.to(device), self.labels.to(device), self.names, self.classes)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of pixels and labels (16 hex digits): equal if and only if the data are."""
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        digest.update(self.images.cpu().contiguous().numpy())
        digest.update(self.labels.cpu().contiguous().numpy())
        return digest.hexdigest()[:16]
