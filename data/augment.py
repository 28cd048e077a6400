"""Random changes of images, as tensor operations on a whole batch.

Images are [N, H, W, C]. The random numbers of each image are drawn first, so that the same change can be made again.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from configs.schema import Augmentation
from data.distort import warp


@dataclass
class Changes:
    """The random part of an augmentation. flip: bool [N]; shift: int64 [N, 2]; angle: float [N], in radians."""

    flip: Tensor
    shift: Tensor
    angle: Tensor

    def __getitem__(self, indices: Tensor) -> "Changes":
        return Changes(self.flip[indices], self.shift[indices], self.angle[indices])


def draw_changes(count: int, settings: Augmentation, generator: torch.Generator | None = None) -> Changes:
    """Draw the random changes of `count` images."""
    flip = torch.rand(count, generator=generator) < (0.5 if settings.flip else 0.0)
    shift = torch.randint(-settings.crop, settings.crop + 1, (count, 2), generator=generator)
    angle = (2 * torch.rand(count, generator=generator) - 1) * math.radians(settings.rotation)
    return Changes(flip, shift, angle)


def augment(images: Tensor, draws: Changes) -> Tensor:
    """uint8 [N, H, W, C] → the same, flipped, shifted over a reflected border and, if any angle is not 0, rotated
    (float)."""
    turned = bool(draws.angle.any())  # before the draws go to a GPU: the CPU would wait for it
    flip, shift, angle = (draw.to(images.device) for draw in (draws.flip, draws.shift, draws.angle))
    count, height, width, _ = images.shape
    down, right = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    rows = _reflect(down + shift[:, :1], height)
    columns = _reflect(torch.where(flip[:, None], right.flip(0), right) + shift[:, 1:], width)
    images = images[torch.arange(count, device=images.device)[:, None, None], rows[:, :, None], columns[:, None, :]]
    if not turned:
        return images
    planes = images.permute(0, 3, 1, 2).float()
    return warp(planes, angle, torch.ones_like(angle), padding="border").permute(0, 2, 3, 1)


def _reflect(position: Tensor, size: int) -> Tensor:
    """Positions outside [0, size) mirrored at the border pixel, which is not repeated."""
    return (size - 1) - ((size - 1) - position.abs()).abs()
