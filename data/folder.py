"""Images in folders: `<root>/<split>/<class>/*.png`, or any tree of images, unlabelled, for out-of-distribution data."""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from configs.schema import Data, DataSet, Resize
from data.dataset import UNLABELLED, Dataset
from training import artifact
from training.bar import note, progress_bar
from training.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
BACKGROUND = (255, 255, 255)  # of what is transparent
KIND = "set of decoded images"
VERSION = 2  # of how images are decoded: a change makes what is kept unusable


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
    searched = folder if classes else root
    if others := sum(1 for _ in files_below(searched)) - len(files):
        note(f"{source.title}: {others} files below {searched} are no images ({', '.join(sorted(SUFFIXES))}) and left out")
    images = decode_once(files, source.title, data.size, data.channels, data.decoded, data.resize)
    dataset = Dataset(source.title, images, torch.tensor(labels), [printable(path.relative_to(root)) for path in files], classes)
    if twice := in_two_classes(dataset):
        note(f"{source.title}: {len(twice)} images stand in two classes, such as {twice[0][0]} and {twice[0][1]}")
    return dataset


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below `folder`, one by one, folder by folder in alphabetical order. Raises UserError for a folder that cannot be read."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})")

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(files):
            yield Path(parent) / name


def images_below(folder: Path) -> Iterator[Path]:
    """Those that have an image's suffix."""
    return (path for path in files_below(folder) if path.suffix.lower() in SUFFIXES)


def printable(text: object) -> str:
    """The text of a path, or of an error about one, with ? for bytes that are no UTF-8."""
    return str(text).encode("utf-8", "replace").decode()


def in_two_classes(dataset: Dataset) -> list[tuple[str, str]]:
    """Pairs of names of equal images with different labels."""
    first: dict[bytes, int] = {}
    pairs = []
    for i, image in enumerate(dataset.images.numpy()):
        j = first.setdefault(hashlib.sha256(image).digest(), i)
        if dataset.labels[j] != dataset.labels[i]:
            pairs.append((dataset.names[j], dataset.names[i]))
    return pairs


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


RESIZE = {"squash": Image.Image.resize, "crop": ImageOps.fit, "pad": ImageOps.pad}


def decode(path: Path, size: int, channels: int, resize: Resize = "squash") -> np.ndarray:
    """One image as uint8 [size, size, channels], upright, on white where it is transparent, resized by PIL's antialiased bilinear filter.

    Raises UserError if it is broken, has several frames or more pixels than PIL thinks safe, or a kind of numbers whose white is not known.
    """
    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise ValueError(f"{image.n_frames} frames, where one is needed")
            image = eight_bits(ImageOps.exif_transpose(image))
            image = image.convert("RGB" if channels == 3 else "L")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise UserError(f"broken image {printable(path)}: {printable(error)}") from None
    if image.size != (size, size):
        image = RESIZE[resize](image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size, size, channels)


def eight_bits(image: Image.Image) -> Image.Image:
    """The image with 8 bits a channel, opaque. Raises ValueError for numbers whose white is not known (float, 32 bits)."""
    if image.mode.startswith("I;16") or image.mode == "I" and image.format == "PNG":
        return Image.fromarray((np.asarray(image).astype(np.uint32) / 257).round().astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}, whose white is not known")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(opaque, image.convert("RGBA"))
    return image


def decode_once(files: list[Path], name: str, size: int, channels: int, keep_in: str, resize: Resize = "squash") -> torch.Tensor:
    """uint8 [N, size, size, channels], decoded in parallel and kept in the folder `keep_in`, named by the files, their sizes and their
    times; mapped into memory if it is there. A damaged one is made again."""
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    key = hashlib.sha256(json.dumps([VERSION, stats, size, channels, *([resize] if resize != "squash" else [])]).encode()).hexdigest()[:16]
    kept, shape = Path(keep_in) / f"{name}-{key}.safetensors", (len(files), size, size, channels)
    if kept.exists():
        try:
            return artifact.load(kept, KIND)[0]["images"]
        except UserError as error:
            note(f"{error}; making it again")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=keep_in) as file:
        os.posix_fallocate(file.fileno(), 0, math.prod(shape))  # a full disk is an error here, and the death of the process later
        images = np.memmap(file, np.uint8, "r+", shape=shape)
        with ThreadPoolExecutor() as pool, progress_bar(desc=f"decoding {name}", total=len(files), unit="image", leave=False) as bar:
            try:
                for i, image in enumerate(pool.map(lambda path: decode(path, size, channels, resize), files)):
                    images[i] = image
                    bar.update()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        artifact.save(kept, KIND, {"images": torch.from_numpy(images)}, {})
    return artifact.load(kept, KIND)[0]["images"]
