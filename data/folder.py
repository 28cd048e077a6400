"""Images in folders: `<root>/<split>/<class>/*.png`, or any tree of images, unlabelled, for out-of-distribution data."""

import hashlib
import json
import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from configs.schema import Data, DataSet
from data.dataset import UNLABELLED, Dataset
from training.bar import progress_bar
from training.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


def load(source: DataSet, split: Literal["train", "test"], data: Data) -> Dataset:
    """The images below `source.root`, decoded once and mapped into memory by later runs.

    With a folder named `split` the classes are its folders; without one every image of the tree counts, unlabelled (for the
    train split, which needs labels, that is an error). Raises UserError for a missing folder, an empty class or a broken image.
    """
    root = Path(source.root)
    if not root.is_dir():
        raise UserError(f"{source.title}: no folder {root}")
    folder = root / split
    if folder.is_dir():
        classes, files, labels = labelled(source.title, root, split)
    elif split == "train":
        raise UserError(f"{source.title}: no folder {folder}; training images belong in {folder}/<class>/")
    else:
        classes, files = [], list(images_below(root))
        labels = [UNLABELLED] * len(files)
    if not files:
        raise UserError(f"{source.title}: no images ({', '.join(sorted(SUFFIXES))}) below {root}")
    images = decode_once(files, source.title, data.size, data.channels, data.decoded)
    names = [str(path.relative_to(root)) for path in files]
    return Dataset(source.title, images, torch.tensor(labels), names, classes)


def images_below(folder: Path) -> Iterator[Path]:
    """Every image below `folder`, one by one, folder by folder in alphabetical order."""
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES:
                yield Path(parent) / name


def labelled(name: str, root: Path, split: str, without: Collection[str] = ()) -> tuple[list[str], list[Path], list[int]]:
    """Classes, files and labels of `<root>/<split>/<class>/`, but for the classes in `without`.

    Raises UserError for an empty class, and for one that is in the test split and not in train.
    """
    classes = [c for c in _class_folders(root / split) if c not in without]
    unknown = set(_class_folders(root / "test")) - set(_class_folders(root / "train"))
    if unknown and (root / "train").is_dir():
        raise UserError(f"{name}: class {min(unknown)!r} is in test and not in train ({root})")
    by_class = [list(images_below(root / split / c)) for c in classes]
    for c, images in zip(classes, by_class):
        if not images:
            raise UserError(f"{name}: class {c!r} has no images ({root / split / c})")
    return classes, list(chain.from_iterable(by_class)), [label for label, images in enumerate(by_class) for _ in images]


def _class_folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def decode(path: Path, size: int, channels: int) -> np.ndarray:
    """One image as uint8 [size, size, channels], resized by PIL's antialiased bilinear filter. Raises UserError if it is broken."""
    try:
        with Image.open(path) as image:
            image = image.convert("RGB" if channels == 3 else "L")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise UserError(f"broken image {path}: {error}") from None
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size, size, channels)


def decode_once(files: list[Path], name: str, size: int, channels: int, keep_in: str) -> torch.Tensor:
    """uint8 [N, size, size, channels], decoded in parallel into one array in the folder `keep_in`, named by what it holds; mapped into
    memory if it is there already."""
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    key = hashlib.sha256(json.dumps([stats, size, channels]).encode()).hexdigest()[:16]
    array = Path(keep_in) / f"{name}-{key}.npy"
    if not array.exists():
        array.parent.mkdir(parents=True, exist_ok=True)
        partial = array.with_suffix(".partial")
        images = np.lib.format.open_memmap(partial, "w+", np.uint8, (len(files), size, size, channels))
        with ThreadPoolExecutor() as pool:
            decoded = pool.map(lambda path: decode(path, size, channels), files)
            for i, image in enumerate(progress_bar(decoded, f"decoding {name}", len(files), unit="image", leave=False)):
                images[i] = image
        images.flush()
        partial.rename(array)
    return torch.from_numpy(np.load(array, mmap_mode="c"))
