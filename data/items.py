"""Images that are in no folder: the items (image, label) of any `torch.utils.data.Dataset`.

An image is a uint8 array [H, W] or [H, W, C] in 0-255, or a float one in [0, 1], as torchvision's `ToTensor` gives it, [C, H, W]. Floats
become one of 256 levels: from here on all images are alike.
"""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as Items

from configs.schema import Data
from data.dataset import UNLABELLED, Dataset
from data.resize import fit_to
from training.bar import progress_bar
from training.errors import UserError


def dataset_of(items: Items, name: str, data: Data, classes: list[str]) -> Dataset:
    """All images, in the size and channels that `data` asks for.

    Raises UserError for what is no image, or no label: several labels an image and segmentation are not supported.
    """
    images, labels = [], []
    for i in progress_bar(range(len(items)), desc=f"reading {name}", unit="image", leave=False, delay=2):
        image, label = pair_of(items[i], i, name)
        images.append(fit_to(pixels_of(image, data.channels, f"{name}, item {i}").unsqueeze(0), data.size, data.channels, data.resize)[0])
        labels.append(label)
    if not images:
        raise UserError(f"{name}: no items")
    if not max(labels) < len(classes):
        raise UserError(f"{name}: label {max(labels)} is no place in {len(classes)} classes ({', '.join(classes[:3])}, ...)")
    return Dataset(name, torch.stack(images), torch.tensor(labels), [f"{name}-{i:06d}" for i in range(len(images))], classes)


def pair_of(item: object, i: int, name: str) -> tuple[object, int]:
    """An item's image and label; of an image alone the label is unknown."""
    if not isinstance(item, (tuple, list)):
        return item, UNLABELLED
    if len(item) != 2:
        raise UserError(f"{name}, item {i}: {len(item)} parts, where (image, label) are two")
    image, label = item
    if np.ndim(label) or not float(label).is_integer():
        raise UserError(f"{name}, item {i}: one class an image is supported: a whole number, not several labels, a map or a share")
    return image, int(label)


def pixels_of(image: object, channels: int, where: str) -> Tensor:
    """uint8 [H, W, C] of an array, a tensor or a PIL image. Raises UserError for another form or range."""
    try:
        pixels = torch.as_tensor(np.asarray(image))
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: no image ({error})") from None
    if pixels.ndim == 2:
        pixels = pixels.unsqueeze(-1)
    if pixels.ndim != 3 or not (pixels.dtype == torch.uint8 or pixels.is_floating_point()):
        raise UserError(f"{where}: {pixels.dtype} {list(pixels.shape)}, where images are uint8 [H, W, C] or float [C, H, W]")
    if pixels.is_floating_point():
        if not (pixels.isfinite().all() and 0 <= pixels.min() and pixels.max() <= 1):
            raise UserError(f"{where}: floats from {pixels.min():.3g} to {pixels.max():.3g}, where those of an image are in [0, 1]: scale them")
        pixels = (255 * pixels).round().to(torch.uint8)
        if pixels.shape[0] in (1, channels) and pixels.shape[-1] not in (1, channels):
            pixels = pixels.permute(1, 2, 0)
    return pixels
