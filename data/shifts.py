"""Synthetic shifts of images that no training view contains: recipes are chosen on them, never on an
out-of-distribution set.

A shift is a function (uint8 [N, H, W, C], generator) → uint8 of that shape, and one line in `SHIFTS`. Severities are
about the middle ones of ImageNet-C (Hendrycks & Dietterich 2019).
"""

import io
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from data.dataset import Dataset
from training.seeds import seed_of


def pixelate(images: Tensor, generator: torch.Generator) -> Tensor:
    """Half the resolution, shown as blocks of 2x2 pixels."""
    planes = F.avg_pool2d(_planes(images), 2, ceil_mode=True)
    return _images(F.interpolate(planes, size=images.shape[1:3], mode="nearest"))


def elastic(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each pixel moved by a smooth random field, by about a sixteenth of the width."""
    planes = _planes(images)
    identity = F.affine_grid(torch.eye(2, 3).expand(len(images), 2, 3), list(planes.shape), align_corners=False)
    field = _smooth(len(images), 2, images.shape[1:3], 4, generator).permute(0, 2, 3, 1)
    return _images(F.grid_sample(planes, identity + field / 8, padding_mode="reflection", align_corners=False))


def fog(images: Tensor, generator: torch.Generator) -> Tensor:
    """Bright clouds of several sizes before the image, covering between a fifth and four fifths of its contrast."""
    size = images.shape[1:3]
    clouds = sum(_smooth(len(images), 1, size, cells, generator) / cells for cells in (2, 4, 8))
    density = (0.5 + 0.5 * clouds).clamp(0.2, 0.8)
    return _images(torch.lerp(_planes(images), torch.full((), 235.0), density))


def jpeg(images: Tensor, generator: torch.Generator) -> Tensor:
    """JPEG at quality 10."""
    return torch.from_numpy(coded(images.numpy(), 10))


def coded(images: np.ndarray, quality: int) -> np.ndarray:
    """uint8 images [N, H, W, C] after JPEG."""

    def through(image: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(image.squeeze()).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer)).reshape(image.shape)

    return np.stack([through(image) for image in images])


SHIFTS = {"pixelate": pixelate, "elastic": elastic, "fog": fog, "jpeg": jpeg}


def shifted(dataset: Dataset, kind: str, seed: int) -> Dataset:
    """The data set after one of `SHIFTS`, named `<name>-<kind>`."""
    generator = torch.Generator().manual_seed(seed_of(seed, "shift", kind))
    images = SHIFTS[kind](dataset.images, generator)
    return replace(dataset, name=f"{dataset.name}-{kind}", pixels=images, order=None)


def shifted_parts(dataset: Dataset, seed: int) -> list[Dataset]:
    """The data set cut into parts, one for each of `SHIFTS`, and each part shifted."""
    parts = torch.arange(len(dataset)).tensor_split(len(SHIFTS))
    return [shifted(dataset.subset(part), kind, seed) for part, kind in zip(parts, SHIFTS)]


def _planes(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float()


def _images(planes: Tensor) -> Tensor:
    return planes.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _smooth(count: int, channels: int, size: tuple[int, int], cells: int, generator: torch.Generator) -> Tensor:
    """Random fields [N, channels, H, W] that vary over `cells` lengths of the image, with values of about ±1."""
    coarse = torch.randn(count, channels, cells + 1, cells + 1, generator=generator)
    return F.interpolate(coarse, size=tuple(size), mode="bicubic", align_corners=True)
