"""Images in folders: `<root>/<split>/<class>/*.png`, or any tree of images, unlabelled, for out-of-distribution
data."""

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from configs.errors import UserError
from configs.schema import Data, DataSet, Resize, Shape
from data.dataset import PART, UNLABELLED, Dataset, LazyPixels, Split
from training import artifact
from training.bar import note, progress_bar
from training.external import digest_of

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
KINDS = ", ".join(sorted(SUFFIXES))
NOT_OURS = ("__MACOSX", "Thumbs.db", "desktop.ini")  # made by systems and programs, like all that begins with a dot
BACKGROUND = (255, 255, 255)  # colour behind transparent pixels
MODES = {1: "L", 3: "RGB"}  # of an image with so many channels
RESIZE = {"squash": Image.Image.resize, "crop": ImageOps.fit, "pad": ImageOps.pad}
VERSION = 3  # of the decoding: a change makes kept files unusable
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # beyond twice its limit Pillow raises an error


def load(source: DataSet, split: Split, data: Data) -> Dataset:
    """The images below `source.root`: decoded once and memory-mapped, or, if `data.decoded` is null, decoded on demand.

    If there is a folder named `split` (`val` or `valid` are taken in the place of `test`) with folders of images, these
    are the classes. Otherwise all images of the tree are taken, without labels; for the train split, which needs
    labels, that is an error. Raises UserError for a missing folder, a single class or a broken image.
    """
    title, root = source.title, Path(source.root)
    searched = split_folder(root, split)
    if not (searched.is_dir() and (split == "train" or has_classes(searched))):
        if split == "train":
            raise UserError(f"{title}: no folder {searched}; training images belong in {searched}/<class>/")
        return unlabelled(title, root, data)
    if searched.name != split:
        note(f"{title}: no folder {root / split}; {searched} is taken in its place")
    classes = class_folders(title, root, split)
    files, labels = labelled(root, searched, classes)
    tell_left_out(title, root, searched, files)
    dataset = decoded(title, root, files, labels, classes, data)
    if not dataset.lazy:
        first = {}  # the label and the name of the first one of equal images
        images = zip(dataset.digests(), labels.tolist(), dataset.names)
        pairs = [(*first.setdefault(digest, (label, name)), label, name) for digest, label, name in images]
        if twice := [f"{one} and {other}" for label, one, another, other in pairs if label != another]:
            note(f"{title}: {len(twice)} images are in two classes, such as {twice[0]}")
    return dataset


def unlabelled(title: str, root: Path, data: Data) -> Dataset:
    """All images below `root`, without labels. Raises UserError if there are none."""
    files = [str(path.relative_to(root)) for path in images_below(root)]
    if not files:
        raise UserError(f"{title}: no images ({KINDS}) below {root}")
    tell_left_out(title, root, root, files)
    return decoded(title, root, files, torch.full((len(files),), UNLABELLED), [], data)


def tell_left_out(title: str, root: Path, folder: Path, files: list[str]) -> None:
    """Say how many files below `folder` are not among `files`, whose paths begin at `root`."""
    taken = {root / file for file in files}
    images, others = counts(path for path in files_below(folder) if path not in taken)
    if images:
        note(f"{title}: {images} images below {folder} are in no class folder and are left out")
    if others:
        note(f"{title}: {others} files below {folder} are not images ({KINDS}) and are left out")


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below `folder`, one by one, folder by folder in alphabetical order; links to folders are followed,
    each folder once. What systems and programs put there is left out. Of a file, the file itself.

    Raises UserError for a folder that cannot be read.
    """
    if folder.is_file():
        yield folder
        return
    seen = set()

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})")

    for parent, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        if (place := os.path.realpath(parent)) in seen:  # a link to a folder above would never end
            folders.clear()
            continue
        seen.add(place)
        folders[:] = filter(ours, sorted(folders))
        for name in filter(ours, sorted(files)):
            yield Path(parent) / name


def ours(name: str) -> bool:
    """Whether a file or a folder of this name is the user's: not `.ipynb_checkpoints`, `._photo.jpg`, `Thumbs.db`."""
    return not name.startswith(".") and name not in NOT_OURS


def split_folder(root: Path, split: Split) -> Path:
    """The folder of a split."""
    others = ("val", "valid", "validation") if split == "test" else ()
    return next((root / name for name in (split, *others) if (root / name).is_dir()), root / split)


def has_classes(folder: Path) -> bool:
    """Whether a folder has a folder with images in it."""
    return any(path.is_dir() and next(images_below(path), None) for path in folder.iterdir() if ours(path.name))


def counts(paths: Iterable[Path]) -> tuple[int, int]:
    """How many of the paths are images, and how many are other files."""
    are_images = [path.suffix.lower() in SUFFIXES for path in paths]
    return sum(are_images), len(are_images) - sum(are_images)


def images_below(folder: Path) -> Iterator[Path]:
    """The files below `folder` that have an image suffix."""
    return (path for path in files_below(folder) if path.suffix.lower() in SUFFIXES)


def printable(text: object) -> str:
    """The text of a path, or of an error about one, with ? for bytes that are not UTF-8."""
    return str(text).encode("utf-8", "replace").decode()


def class_folders(name: str, root: Path, split: Split) -> list[str]:
    """The classes of `<root>/<split>/<class>/`: those of the train split, if there is one; a class without images is
    left out, and a line says so.

    Raises UserError for a class that is in test and not in train, and for a single class in train.
    """
    found = {}
    for s in ("train", "test"):
        folders = [path for path in split_folder(root, s).glob("*") if path.is_dir() and ours(path.name)]
        empty = [path.name for path in folders if next(images_below(path), None) is None]
        found[s] = {path.name for path in folders} - set(empty)
        if empty and s == split:
            note(f"{name}: {len(empty)} folders of {split} have no images and are left out: {', '.join(sorted(empty))}")
    if found["train"] and (unknown := found["test"] - found["train"]):
        raise UserError(f"{name}: class {min(unknown)!r} is in test and not in train ({root})")
    if split == "train" and len(found["train"]) < 2:
        classes = ", ".join(found["train"]) or "none"
        raise UserError(f"{name}: two classes or more are needed in {root / split}; there is {classes}")
    return sorted(found["train"] or found[split])


def labelled(root: Path, searched: Path, classes: list[str]) -> tuple[list[str], Tensor]:
    """Files (below `root`) and labels of `<searched>/<class>/`."""
    files, labels = [], []
    for label, folder in enumerate(searched / c for c in classes):
        images = [str(path.relative_to(root)) for path in images_below(folder)] if folder.is_dir() else []
        files += images
        labels += [label] * len(images)
    return files, torch.tensor(labels, dtype=torch.int64)


def decode(path: Path, shape: Shape, resize: Resize = "squash") -> np.ndarray:
    """One image as uint8 [H, W, C], upright, on a white background, resized by PIL's antialiased bilinear
    filter.

    Of several frames (a phone's JPEG, a GIF) it is the first. Raises UserError if it is broken, has more pixels than
    PIL allows, or a pixel type whose value of white is unknown; and for other than 1 or 3 channels.
    """
    height, width, channels = shape
    if channels not in MODES:
        raise UserError(f"data.channels: a file's image has 3 or 1, not {channels}")
    try:
        with Image.open(path) as image:
            negative = image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(262) == 0  # of a TIFF
            image = eight_bits(ImageOps.exif_transpose(image))
            image = (ImageOps.invert(image) if negative else image).convert(MODES[channels])
    except Exception as error:  # damaged metadata can raise any error
        raise UserError(f"broken image {printable(path)}: {printable(error)}") from None
    if image.size != (width, height):
        image = RESIZE[resize](image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)


def eight_bits(image: Image.Image) -> Image.Image:
    """The image with 8 bits per channel, opaque. Raises ValueError for pixel types whose value of white is unknown
    (float, 32 bits)."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint32) / 257).round().astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}, whose white is not known")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(opaque, image.convert("RGBA"))
    return image


def decoded(name: str, root: Path, files: list[str], labels: Tensor, classes: list[str], data: Data) -> Dataset:
    """The data set of `files` below `root`: decoded once into the folder `data.decoded` and memory-mapped from there;
    or, if that is null, decoded on demand. The decoding settings, and the files' paths, sizes and modification times
    identify it."""
    shape = torch.Size((len(files), *data.shape))
    digest = hashlib.sha256(json.dumps([VERSION, *shape, data.resize]).encode())
    for path in map(root.joinpath, files):
        about = path.stat()
        digest.update(json.dumps([str(path.resolve()), about.st_size, about.st_mtime_ns]).encode())
    key = digest.hexdigest()

    def read(i: int) -> Tensor:
        return torch.tensor(decode(root / files[i], data.shape, data.resize))

    pixels = LazyPixels(read, shape, key)
    if data.decoded is not None:
        pixels = kept(pixels, Path(data.decoded) / f"{name}-{key[:16]}.npy", name)
    return Dataset(name, pixels, labels, list(map(printable, files)), classes)


def kept(images: LazyPixels, path: Path, name: str) -> Tensor:
    """The images in the file `path`, memory-mapped; if it is missing or damaged, it is made first."""
    checksum = path.with_suffix(".sha256")
    if path.exists() and not (checksum.exists() and checksum.read_bytes() == digest_of(path).encode()):
        note(f"{path}: altered since it was written; making it again")
        path.unlink()
    if not path.exists():
        with artifact.replacing(path) as temporary, ThreadPoolExecutor() as pool:
            pixels = mapped(temporary, images.shape)
            parts = torch.arange(len(images)).split(PART)  # an executor keeps all its inputs and results
            for part in progress_bar(parts, desc=f"decoding {name}", unit=f"x {PART} images", leave=False):
                pixels[part] = torch.stack(list(pool.map(images.read, part.tolist())))
            artifact.write_text(checksum, digest_of(temporary))
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def mapped(path: Path, shape: torch.Size) -> Tensor:
    """Zeros (uint8) in a new .npy file, memory-mapped, so that they can be larger than memory."""
    pixels = np.lib.format.open_memmap(path, "w+", np.uint8, tuple(shape))
    if hasattr(os, "posix_fallocate"):  # a full disk is an error here; later it kills the process
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return torch.from_numpy(pixels)
