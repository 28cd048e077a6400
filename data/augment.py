"""Random changes of images, as tensor operations on a whole batch.

Images are [N, H, W, C]. The random numbers of each image are drawn first, so that the same change can be made again.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from configs.schema import Augmentation
from data.distort import warp

POOL = 2**22  # normal numbers, drawn once; an image's noise is a window that starts anywhere in them


@dataclass
class Changes:
    """The random part of an augmentation. flip: bool [N]; shift: int64 [N, 2]; angle: float [N], in radians; sigma:
    float [N], the noise's standard deviation as a share of the range of pixels; window: int64 [N], where its numbers
    start in the pool."""

    flip: Tensor
    shift: Tensor
    angle: Tensor
    sigma: Tensor
    window: Tensor

    def __getitem__(self, indices: Tensor) -> "Changes":
        return Changes(*(values[indices] for values in vars(self).values()))


def draw_changes(count: int, settings: Augmentation, generator: torch.Generator | None = None) -> Changes:
    """Draw the random changes of `count` images."""
    flip = torch.rand(count, generator=generator) < (0.5 if settings.flip else 0.0)
    shift = torch.randint(-settings.crop, settings.crop + 1, (count, 2), generator=generator)
    angle = (2 * torch.rand(count, generator=generator) - 1) * math.radians(settings.rotation)
    sigma, window = torch.zeros(count), torch.zeros(count, dtype=torch.int64)
    if settings.noise:
        noisy = torch.rand(count, generator=generator) < 0.5
        sigma = settings.noise * torch.rand(count, generator=generator) * noisy
        window = torch.randint(POOL, (count,), generator=generator)
    return Changes(flip, shift, angle, sigma, window)


def augment(images: Tensor, draws: Changes) -> Tensor:
    """uint8 [N, H, W, C] → the same, flipped, shifted over a reflected border and, if any angle or sigma is not 0,
    rotated and noisy (float)."""
    turned, noisy = bool(draws.angle.any()), bool(draws.sigma.any())  # on the CPU: it would wait for a GPU's answer
    flip, shift, angle, sigma, window = (draw.to(images.device) for draw in vars(draws).values())
    count, height, width, _ = images.shape
    down, right = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    rows = _reflect(down + shift[:, :1], height)
    columns = _reflect(torch.where(flip[:, None], right.flip(0), right) + shift[:, 1:], width)
    images = images[torch.arange(count, device=images.device)[:, None, None], rows[:, :, None], columns[:, None, :]]
    if turned:
        planes = images.permute(0, 3, 1, 2).float()
        images = warp(planes, angle, torch.ones_like(angle), padding="border").permute(0, 2, 3, 1)
    if noisy:
        numbers = torch.arange(images[0].numel(), device=images.device)
        noise = _pool(images.device)[(window[:, None] + numbers) % POOL].view(images.shape)
        images = (images + 255 * sigma.view(-1, 1, 1, 1) * noise).clamp(0, 255)
    return images


@cache
def _pool(device: torch.device) -> Tensor:
    return torch.randn(POOL, generator=torch.Generator().manual_seed(0)).to(device)


def _reflect(position: Tensor, size: int) -> Tensor:
    """Positions outside [0, size) mirrored at the border pixel, which is not repeated."""
    return (size - 1) - ((size - 1) - position.abs()).abs()
