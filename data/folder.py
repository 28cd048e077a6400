"""Images in folders: `<root>/<split>/<class>/*.png`, or any tree of images, unlabelled, for out-of-distribution data."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from configs.errors import UserError
from configs.schema import Data, DataSet
from data.dataset import UNLABELLED, Dataset

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


def load(source: DataSet, split: Literal["train", "test"], data: Data) -> Dataset:
    """The images below `source.root`, decoded once and mapped into memory by later runs.

    With a folder named `split` the classes are its folders; without one every image of the tree counts, unlabelled (for the
    train split, which needs labels, that is an error). Raises UserError for a missing folder, an empty class or a broken image.
    """
    root = Path(source.root)
    if not root.is_dir():
        raise UserError(f"{source.name}: no folder {root}")
    folder = root / split
    if folder.is_dir():
        classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
        if not classes:
            raise UserError(f"{source.name}: {folder} has no class folders")
        files, labels = [], []
        for label, name in enumerate(classes):
            found = list_images(folder / name)
            if not found:
                raise UserError(f"{source.name}: class {name!r} has no images ({folder / name})")
            files += found
            labels += [label] * len(found)
    elif split == "train":
        raise UserError(f"{source.name}: no folder {folder}; training images belong in {folder}/<class>/")
    else:
        classes, files = [], list_images(root)
        labels = [UNLABELLED] * len(files)
        if not files:
            raise UserError(f"{source.name}: no images ({', '.join(sorted(SUFFIXES))}) below {root}")
    images = _decode_once(files, source.name, data)
    names = [str(path.relative_to(root)) for path in files]
    return Dataset(source.name, images, torch.tensor(labels), names, classes)


def list_images(folder: Path) -> list[Path]:
    """All images below `folder`, sorted by path."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def decode(path: Path, size: int, channels: int) -> np.ndarray:
    """One image as uint8 [size, size, channels], resized with PIL's antialiased bilinear filter. Raises UserError if it is broken."""
    try:
        with Image.open(path) as image:
            image = image.convert("RGB" if channels == 3 else "L")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise UserError(f"broken image {path}: {error}") from None
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size, size, channels)


def _decode_once(files: list[Path], name: str, data: Data) -> torch.Tensor:
    """Decode in parallel into one array on disk, named by what it holds; map it if it is there already."""
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    key = hashlib.sha256(json.dumps([stats, data.size, data.channels]).encode()).hexdigest()[:16]
    array = Path(data.decoded) / f"{name}-{key}.npy"
    if not array.exists():
        array.parent.mkdir(parents=True, exist_ok=True)
        partial = array.with_suffix(".partial")
        images = np.lib.format.open_memmap(partial, "w+", np.uint8, (len(files), data.size, data.size, data.channels))
        with ThreadPoolExecutor() as pool:
            decoded = pool.map(lambda path: decode(path, data.size, data.channels), files)
            for i, image in enumerate(tqdm(decoded, f"decoding {name}", len(files), unit="image", leave=False)):
                images[i] = image
        images.flush()
        partial.rename(array)
    return torch.from_numpy(np.load(array, mmap_mode="c"))
