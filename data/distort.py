"""Strong changes of images, which move a training image further than augmentation does.

Images are float [B, C, H, W] in 0-255; every strength is [B], one for each image.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

NOISE_FIELDS = 64  # fields of noise that images share: one field for each image would not fit into memory


def warp(
    images: Tensor, angle: Tensor, zoom: Tensor, padding: Literal["reflection", "border"] = "reflection"
) -> Tensor:
    """Rotate by `angle` (radians) and zoom about the centre, bilinear. Pixels from outside are mirrored at the border,
    or repeat it."""
    cos, sin, zero = angle.cos() / zoom, angle.sin() / zoom, torch.zeros_like(angle)
    height, width = images.shape[2:]  # affine_grid counts both sides as 2
    matrix = torch.stack([cos, -sin * height / width, zero, sin * width / height, cos, zero], 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode=padding, align_corners=False)


def blur(images: Tensor, amount: Tensor) -> Tensor:
    """Blend with the image blurred by a 5x5 binomial kernel; amount in [0, 1]."""
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device) / 16
    padded = F.pad(images, (2, 2, 2, 2), mode="replicate").flatten(0, 1).unsqueeze(1)
    blurred = F.conv2d(F.conv2d(padded, row.view(1, 1, 1, 5)), row.view(1, 1, 5, 1)).view(images.shape)
    return torch.lerp(images, blurred, _each(amount))


def light(images: Tensor, contrast: Tensor, brightness: Tensor) -> Tensor:
    """contrast · (image − 127.5) + 127.5 + brightness: a negative contrast gives the negative image."""
    return _each(contrast) * (images - 127.5) + 127.5 + _each(brightness)


def recolour(images: Tensor, order: Tensor, grey: Tensor) -> Tensor:
    """Permute the channels (order [B, C]) and blend with the mean of the channels; grey in [0, 1]."""
    images = images[torch.arange(len(images), device=images.device)[:, None], order]
    return torch.lerp(images, images.mean(1, keepdim=True).expand(images.shape), _each(grey))


def shuffle_patches(images: Tensor, order: Tensor) -> Tensor:
    """Cut each image into k x k patches and put patch order[b, i] at place i (order [B, k²]; k divides height and
    width)."""
    count, channels, height, width = images.shape
    k = math.isqrt(order.shape[1])
    patches = images.view(count, channels, k, height // k, k, width // k).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    patches = patches[torch.arange(count, device=images.device)[:, None], order].unflatten(1, (k, k))
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(images.shape)


def _each(strength: Tensor) -> Tensor:
    """A number for each image, as [B, 1, 1, 1]."""
    return strength.view(-1, 1, 1, 1)
