"""Images that are not files in a folder: the items (image, label) of any `torch.utils.data.Dataset`.

An image is a uint8 array [H, W] or [H, W, C] in 0-255, or a float one [H, W] or [C, H, W] in [0, 1], as torchvision's
`ToTensor` gives it. Floats are rounded to 256 levels, so that all images are uint8 from here on.
"""

import hashlib
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as Items
from torch.utils.data import IterableDataset

from configs.errors import UserError
from configs.schema import Data, DataSet
from data.dataset import UNLABELLED, Dataset, LazyPixels, Split, class_names
from data.folder import MODES, eight_bits, mapped
from data.resize import fit_to
from training.bar import progress_bar
from training.external import call


def load(source: DataSet, split: Split, data: Data) -> Dataset:
    """The data set that a callable of the user's own file, such as `my_data.py:spectrograms`, returns for a split.

    Its classes are the texts of its attribute `classes`, or else the numbers up to the largest label.
    """
    items = call(source.source, {"split": split})
    return dataset_of(items, source.title, data, class_names(getattr(items, "classes", [])) or None)


def dataset_of(items: Items, name: str, data: Data, classes: list[str] | None) -> Dataset:
    """All images, in the size and channels that `data` asks for: kept in `data.decoded`, in a file without a name; or,
    if that is null, read on demand.

    Raises UserError for an item that is not an image, or a label that is not one class: several labels per image are
    not supported.
    """
    if isinstance(items, IterableDataset) or not (hasattr(items, "__getitem__") and hasattr(items, "__len__")):
        raise UserError(
            f"{name}: a {type(items).__name__}, but items need numbers and a length, as in a torch.utils.data.Dataset"
        )
    shape = torch.Size((len(items), *data.shape))
    if not len(items):
        raise UserError(f"{name}: no items")

    def fitted(image: object, i: int) -> Tensor:
        pixels = pixels_of(image, data.channels, f"{name}, item {i}")
        return fit_to(pixels.unsqueeze(0), data.shape, data.resize)[0]

    digest = hashlib.sha256()
    if data.decoded is not None:
        Path(data.decoded).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=data.decoded) as file:  # it loses its name now, and its content at the end
            pixels = mapped(Path(file.name), shape)
    labels = torch.empty(len(items), dtype=torch.int64)
    for i in progress_bar(range(len(items)), desc=f"reading {name}", unit="image", leave=False, delay=2):
        image, labels[i] = pair_of(items[i], i, name)
        if data.decoded is not None:
            pixels[i] = fitted(image, i)
        else:
            digest.update(fitted(image, i).numpy())
    if data.decoded is None:
        pixels = LazyPixels(lambda i: fitted(pair_of(items[i], i, name)[0], i), shape, digest.hexdigest())
    highest = int(labels.max())
    classes = classes or [str(c) for c in range(highest + 1)]
    if highest >= len(classes):
        raise UserError(
            f"{name}: label {highest} is too large for {len(classes)} classes ({', '.join(classes[:3])}, ...)"
        )
    return Dataset(name, pixels, labels, [f"{name}-{i:06d}" for i in range(len(items))], classes)


def pair_of(item: object, i: int, name: str) -> tuple[object, int]:
    """The image and the label of an item; an item without a label gets UNLABELLED."""
    if not isinstance(item, (tuple, list)):
        return item, UNLABELLED
    if len(item) != 2:
        raise UserError(f"{name}, item {i}: {len(item)} parts, but (image, label) has two")
    image, label = item
    if label is None:
        return image, UNLABELLED
    if isinstance(label, (str, bytes)):
        raise UserError(f"{name}, item {i}: the label is the text {label!r}, but a number is needed, from 0 upwards")
    try:
        whole = np.ndim(label) == 0 and float(label).is_integer() and label >= UNLABELLED
    except (TypeError, ValueError):  # a mapping; lists of several lengths
        whole = False
    if not whole:
        raise UserError(
            f"{name}, item {i}: one class per image is supported: a whole number from 0 upwards ({UNLABELLED}: none), "
            "not several labels, a map or a share"
        )
    return image, int(label)


def pixels_of(image: object, channels: int, where: str) -> Tensor:
    """uint8 [H, W, C] of an array, a tensor or a PIL image. Raises UserError for another form or range."""
    try:
        if isinstance(image, Image.Image) and channels in MODES:
            image = np.array(eight_bits(image).convert(MODES[channels]))
        pixels = torch.as_tensor(np.ascontiguousarray(image))
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: no image ({error})") from None
    if pixels.ndim == 2:
        pixels = pixels.unsqueeze(-1)
    floats = pixels.is_floating_point()
    if pixels.ndim != 3 or not (floats or pixels.dtype == torch.uint8):
        raise UserError(
            f"{where}: {pixels.dtype} {list(pixels.shape)}, but images are uint8 [H, W, C] or float [C, H, W]"
        )
    if pixels.shape[0 if floats and np.ndim(image) == 3 else -1] not in (1, 3, 4, channels):
        order = "[C, H, W]" if floats else "[H, W, C]"
        raise UserError(
            f"{where}: {pixels.dtype} images are {order}, and {list(pixels.shape)} is another order of axes"
        )
    if not floats:
        return pixels
    if not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN is neither
        raise UserError(f"{where}: floats from {pixels.min():.3g} to {pixels.max():.3g}: scale them to [0, 1]")
    if np.ndim(image) == 3:
        pixels = pixels.permute(1, 2, 0)
    return (255 * pixels).round().to(torch.uint8)
