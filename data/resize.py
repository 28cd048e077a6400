"""Conversion of images to the size and channels of the network."""

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.errors import UserError
from configs.schema import Resize


def fit_to(images: Tensor, size: int, channels: int, resize: Resize = "squash") -> Tensor:
    """uint8 [N, H, W, C] → uint8 [N, size, size, channels]: bilinear with antialiasing.

    Grey becomes RGB by repetition; RGB becomes grey by ITU-R 601 luma, as in PIL. Raises UserError for other channels
    (a point has two).
    """
    if channels == 3 and images.shape[-1] == 1:
        images = images.expand(-1, -1, -1, 3)
    elif channels == 1 and images.shape[-1] == 3:
        luma = torch.tensor([0.299, 0.587, 0.114])
        images = (images.float() @ luma).round().to(torch.uint8).unsqueeze(-1)
    if images.shape[-1] != channels:
        raise UserError(f"data.channels: images of {images.shape[-1]} channels cannot be made into ones of {channels}")
    images = squared(images, resize)
    if images.shape[1:3] != (size, size):
        parts = [
            F.interpolate(part.permute(0, 3, 1, 2), size=(size, size), mode="bilinear", antialias=True)
            for part in images.split(4096)
        ]
        images = torch.cat(parts).permute(0, 2, 3, 1)
    return images.contiguous()


def squared(images: Tensor, resize: Resize) -> Tensor:
    """Images [N, H, W, C], made square: `crop` cuts the ends of the longer side, `pad` adds black to the shorter
    one."""
    height, width = images.shape[1:3]
    if resize == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return images[:, top : top + side, left : left + side]
    if resize == "pad":
        side = max(height, width)
        above, before = (side - height) // 2, (side - width) // 2
        return F.pad(images, (0, 0, before, side - width - before, above, side - height - above))
    return images
