"""Synthetic shifts of images that no training view contains: recipes are chosen on them, never on an
out-of-distribution set.

A shift is a function (float [N, C, H, W] in 0-255, generator) → the same, and one line in `SHIFTS`. Severities are
about the middle ones of ImageNet-C (Hendrycks & Dietterich 2019).
"""

import io
from collections.abc import Callable
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
    return F.interpolate(F.avg_pool2d(images, 2, ceil_mode=True), size=images.shape[2:], mode="nearest")


def elastic(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each pixel moved by a smooth random field, by about a sixteenth of the width."""
    identity = F.affine_grid(torch.eye(2, 3).expand(len(images), 2, 3), list(images.shape), align_corners=False)
    field = _smooth(images, 2, 4, generator).permute(0, 2, 3, 1)
    return F.grid_sample(images, identity + field / 8, padding_mode="reflection", align_corners=False)


def fog(images: Tensor, generator: torch.Generator) -> Tensor:
    """Bright clouds of several sizes before the image, covering between a fifth and four fifths of its contrast."""
    clouds = sum(_smooth(images, 1, cells, generator) / cells for cells in (2, 4, 8))
    return torch.lerp(images, torch.full((), 235.0), (0.5 + 0.5 * clouds).clamp(0.2, 0.8))


def jpeg(images: Tensor, generator: torch.Generator) -> Tensor:
    """JPEG at quality 10."""
    return torch.from_numpy(coded(_images(images).numpy(), 10)).permute(0, 3, 1, 2)


def coded(images: np.ndarray, quality: int) -> np.ndarray:
    """uint8 images [N, H, W, C] after JPEG."""

    def through(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return each_by_pil(through, images)


def each_by_pil(change: Callable[[Image.Image], Image.Image], images: np.ndarray) -> np.ndarray:
    """uint8 images [N, H, W, C], each changed as an image of PIL."""
    return np.stack([np.asarray(change(Image.fromarray(x.squeeze()))).reshape(x.shape) for x in images])


SHIFTS = {"pixelate": pixelate, "elastic": elastic, "fog": fog, "jpeg": jpeg}


def shifted(dataset: Dataset, kind: str, seed: int) -> Dataset:
    """The data set after one of `SHIFTS`, named `<name>-<kind>`."""
    generator = torch.Generator().manual_seed(seed_of(seed, "shift", kind))
    pixels = _images(SHIFTS[kind](dataset.images.permute(0, 3, 1, 2).float(), generator))
    return replace(dataset, name=f"{dataset.name}-{kind}", pixels=pixels, order=None)


def shifted_parts(dataset: Dataset, seed: int) -> list[Dataset]:
    """The data set cut into parts, one for each of `SHIFTS`, and each part shifted."""
    parts = torch.arange(len(dataset)).tensor_split(len(SHIFTS))
    return [shifted(dataset.subset(part), kind, seed) for part, kind in zip(parts, SHIFTS)]


def _images(planes: Tensor) -> Tensor:
    return planes.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _smooth(images: Tensor, channels: int, cells: int, generator: torch.Generator) -> Tensor:
    """Random fields [N, channels, H, W] that vary over `cells` lengths of the image, with values of about ±1."""
    coarse = torch.randn(len(images), channels, cells + 1, cells + 1, generator=generator)
    return F.interpolate(coarse, size=images.shape[2:], mode="bicubic", align_corners=True)
