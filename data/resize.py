"""Conversion of images to the size and channels of the network."""

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.errors import UserError
from configs.schema import Resize, Shape


def fit_to(images: Tensor, shape: Shape, resize: Resize = "squash") -> Tensor:
    """uint8 [N, H, W, C] → uint8 [N, *shape]: bilinear with antialiasing.

    The proportions first: `crop` cuts the ends of the longer side, `pad` adds black to the shorter one.
    Grey becomes RGB by repetition; RGB becomes grey by ITU-R 601 luma, as in PIL. Raises UserError for other channels
    (a point has two).
    """
    *size, channels = shape
    if channels == 3 and images.shape[-1] == 1:
        images = images.expand(-1, -1, -1, 3)
    elif channels == 1 and images.shape[-1] == 3:
        luma = torch.tensor([0.299, 0.587, 0.114])
        images = (images.float() @ luma).round().to(torch.uint8).unsqueeze(-1)
    if images.shape[-1] != channels:
        raise UserError(f"data.channels: images of {images.shape[-1]} channels cannot be made into ones of {channels}")
    height, width = images.shape[1:3]
    if resize != "squash":
        scale = (min if resize == "crop" else max)(height / size[0], width / size[1])
        more = [round(scale * side) - now for side, now in zip(size, (height, width))]  # negative: cut off
        above, before = (int(pixels / 2) for pixels in more)
        images = F.pad(images, (0, 0, before, more[1] - before, above, more[0] - above))
    if images.shape[1:3] != tuple(size):
        planes = images.permute(0, 3, 1, 2)
        images = F.interpolate(planes, size=size, mode="bilinear", antialias=True).permute(0, 2, 3, 1)
    return images.contiguous()
