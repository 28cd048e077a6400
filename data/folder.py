"""Images in folders: `<root>/<split>/<class>/*.png`, or any tree of images, unlabelled, for out-of-distribution
data."""

import hashlib
import json
import os
import warnings
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from configs.errors import UserError
from configs.schema import Data, DataSet, Resize
from data.dataset import PART, UNLABELLED, Dataset, LazyPixels
from training import artifact
from training.bar import note, progress_bar

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
BACKGROUND = (255, 255, 255)  # colour behind transparent pixels
VERSION = 3  # of the decoding: a change makes kept files unusable


def load(source: DataSet, split: Literal["train", "test"], data: Data) -> Dataset:
    """The images below `source.root`: decoded once and memory-mapped, or, if `data.decoded` is null, decoded on demand.

    If there is a folder named `split`, its folders are the classes. Otherwise all images of the tree are taken, without
    labels; for the train split, which needs labels, that is an error. Raises UserError for a missing folder, an empty
    class or a broken image.
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
        classes, files = [], [str(path.relative_to(root)) for path in images_below(root)]
        labels = torch.full((len(files),), UNLABELLED)
    if not len(files):
        raise UserError(f"{source.title}: no images ({', '.join(sorted(SUFFIXES))}) below {root}")
    searched = folder if classes else root
    if others := sum(1 for _ in files_below(searched)) - len(files):
        note(
            f"{source.title}: {others} files below {searched} are not images ({', '.join(sorted(SUFFIXES))}) and "
            "are left out"
        )
    dataset = Dataset(
        source.title, pixels_of(root, files, source.title, data), labels, list(map(printable, files)), classes
    )
    if not dataset.lazy and (twice := in_two_classes(dataset)):
        note(f"{source.title}: {len(twice)} images are in two classes, such as {twice[0][0]} and {twice[0][1]}")
    return dataset


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below `folder`, one by one, folder by folder in alphabetical order; links to folders are followed,
    each folder once.

    Raises UserError for a folder that cannot be read.
    """
    seen = set()

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})")

    for parent, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        if (place := os.path.realpath(parent)) in seen:  # a link to a folder above would never end
            folders.clear()
            continue
        seen.add(place)
        folders.sort()
        for name in sorted(files):
            yield Path(parent) / name


def images_below(folder: Path) -> Iterator[Path]:
    """The files below `folder` that have an image suffix."""
    return (path for path in files_below(folder) if path.suffix.lower() in SUFFIXES)


def printable(text: object) -> str:
    """The text of a path, or of an error about one, with ? for bytes that are not UTF-8."""
    return str(text).encode("utf-8", "replace").decode()


def in_two_classes(dataset: Dataset) -> list[tuple[str, str]]:
    """Pairs of names of equal images with different labels."""
    digests = np.array(
        [hashlib.sha256(image.contiguous().numpy()).digest()[:16] for part in dataset.parts() for image in part], "S16"
    )
    _, first, group = np.unique(digests, return_index=True, return_inverse=True)
    labels = dataset.labels.numpy()
    other = (labels[first[group]] != labels).nonzero()[0]
    return [(dataset.names[first[group[i]]], dataset.names[i]) for i in other.tolist()]


def labelled(
    name: str, root: Path, split: str, without: Collection[str] = ()
) -> tuple[list[str], list[str], torch.Tensor]:
    """Classes, files (below `root`) and labels of `<root>/<split>/<class>/`, except the classes in `without`.

    Raises UserError for an empty class, and for one that is in the test split and not in train.
    """
    classes = [c for c in _class_folders(root / split) if c not in without]
    unknown = set(_class_folders(root / "test")) - set(_class_folders(root / "train"))
    if unknown and (root / "train").is_dir():
        raise UserError(f"{name}: class {min(unknown)!r} is in test and not in train ({root})")
    by_class = [[str(path.relative_to(root)) for path in images_below(root / split / c)] for c in classes]
    for c, images in zip(classes, by_class):
        if not len(images):
            raise UserError(f"{name}: class {c!r} has no images ({root / split / c})")
    labels = torch.arange(len(classes)).repeat_interleave(
        torch.tensor([len(images) for images in by_class], dtype=torch.long)
    )
    return classes, [file for images in by_class for file in images], labels


def _class_folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # beyond twice its limit Pillow raises an error
RESIZE = {"squash": Image.Image.resize, "crop": ImageOps.fit, "pad": ImageOps.pad}


def decode(path: Path, size: int, channels: int, resize: Resize = "squash") -> np.ndarray:
    """One image as uint8 [size, size, channels], upright, on a white background, resized by PIL's antialiased bilinear
    filter.

    Raises UserError if it is broken, has several frames, more pixels than PIL allows, or a pixel type whose value of
    white is unknown.
    """
    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise ValueError(f"{image.n_frames} frames, but one is needed")
            image = eight_bits(ImageOps.exif_transpose(image))
            image = image.convert("RGB" if channels == 3 else "L")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise UserError(f"broken image {printable(path)}: {printable(error)}") from None
    if image.size != (size, size):
        image = RESIZE[resize](image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size, size, channels)


def eight_bits(image: Image.Image) -> Image.Image:
    """The image with 8 bits per channel, opaque. Raises ValueError for pixel types whose value of white is unknown
    (float, 32 bits)."""
    if image.mode.startswith("I;16") or image.mode == "I" and image.format == "PNG":
        return Image.fromarray((np.asarray(image).astype(np.uint32) / 257).round().astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}, whose white is not known")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(opaque, image.convert("RGBA"))
    return image


def pixels_of(root: Path, files: Sequence[str], name: str, data: Data) -> torch.Tensor | LazyPixels:
    """The images of `files` below `root`: decoded once into the folder `data.decoded` and memory-mapped from there; or,
    if that is null, decoded on demand."""
    shape = torch.Size((len(files), data.size, data.size, data.channels))
    key = digest_of(root, files, [*shape, data.resize])
    if data.decoded is None:
        return LazyPixels(
            lambda i: torch.tensor(decode(root / files[i], data.size, data.channels, data.resize)), shape, key
        )
    kept = Path(data.decoded) / f"{name}-{key[:16]}.npy"
    checksum = kept.with_suffix(".sha256")
    if kept.exists() and not (checksum.exists() and checksum.read_bytes() == digest_of_file(kept).encode()):
        note(f"{kept}: altered since it was written; making it again")
        kept.unlink()
    if not kept.exists():
        with artifact.replacing(kept) as temporary, ThreadPoolExecutor() as pool:
            images = mapped(temporary, shape)
            with progress_bar(desc=f"decoding {name}", total=len(files), unit="image", leave=False) as bar:
                for indices in torch.arange(len(files)).split(PART):  # an executor keeps all its inputs and results
                    paths = [root / files[i] for i in indices.tolist()]
                    for i, image in zip(
                        indices, pool.map(lambda path: decode(path, data.size, data.channels, data.resize), paths)
                    ):
                        images[i] = image
                        bar.update()
            images.flush()
            artifact.write_text(checksum, digest_of_file(temporary))
    return torch.from_numpy(np.load(kept, mmap_mode="c"))


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mapped(path: Path, shape: torch.Size) -> np.ndarray:
    """A new .npy file of zeros, uint8, memory-mapped, so that it can be larger than memory."""
    images = np.lib.format.open_memmap(path, "w+", np.uint8, tuple(shape))
    with open(path, "r+b") as file:
        os.posix_fallocate(
            file.fileno(), 0, path.stat().st_size
        )  # a full disk is an error here; later it kills the process
    return images


def digest_of(root: Path, files: Sequence[str], settings: list) -> str:
    """SHA-256 of the decoding settings, and of the files' paths, sizes and modification times."""
    digest = hashlib.sha256(json.dumps([VERSION, *settings]).encode())
    for file in files:
        path = root / file
        about = path.stat()
        digest.update(json.dumps([str(path.resolve()), about.st_size, about.st_mtime_ns]).encode())
    return digest.hexdigest()
