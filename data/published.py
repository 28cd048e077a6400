"""The published data sets, by name: from their own files, or from class folders, else downloaded.

Below `root` (default `datasets`) a set is looked for in two forms: the files that its authors published, as torchvision
keeps them, and class folders `<root>/<source>/<split>/<class>/*.png`. The images are put in the order of their pixels'
digests. So both forms give the same data set, with one fingerprint, and the same results.
"""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import download_and_extract_archive

from configs.errors import UserError
from configs.schema import Augmentation, Data, DataSet
from data import folder
from data.dataset import Dataset

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Published:
    """What is known of a set. files: what its authors published, below `root`. counts: images of train and test. side,
    channels: of each image. reader: torchvision's class, which also downloads the files; Tiny-ImageNet has none.
    fingerprints: of train and test, where they are known."""

    files: str
    counts: dict[Split, int]
    side: int
    channels: int
    reader: type | None = None
    fingerprints: dict[Split, str] = field(default_factory=dict)


def _counts(train: int, test: int) -> dict[Split, int]:
    return {"train": train, "test": test}


SETS = {
    "cifar10": Published(
        "cifar-10-batches-py/",
        _counts(50_000, 10_000),
        32,
        3,
        datasets.CIFAR10,
        {"train": "71cf71fbae196ade", "test": "a4aafc27636d8e02"},
    ),
    "cifar100": Published(
        "cifar-100-python/", _counts(50_000, 10_000), 32, 3, datasets.CIFAR100, {"test": "8549619d92b50f52"}
    ),
    "svhn": Published("{split}_32x32.mat", _counts(73_257, 26_032), 32, 3, datasets.SVHN),
    "mnist": Published(
        "MNIST/raw/",
        _counts(60_000, 10_000),
        28,
        1,
        datasets.MNIST,
        {"train": "66dea0c923757382", "test": "08c34308319490af"},
    ),
    "fashion_mnist": Published(
        "FashionMNIST/raw/",
        _counts(60_000, 10_000),
        28,
        1,
        datasets.FashionMNIST,
        {"train": "62ad0d57f9b195c6", "test": "225e4d5f64388640"},
    ),
    "kmnist": Published("KMNIST/raw/", _counts(60_000, 10_000), 28, 1, datasets.KMNIST),
    "tiny_imagenet": Published("tiny-imagenet-200/", _counts(86_000, 8_600), 64, 3),
}

TINY_IMAGENET = ("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de")  # address, MD5
LIKE_CIFAR10 = {  # the 28 classes of Tiny-ImageNet that show objects of CIFAR-10's classes; they are left out
    "n01641577",
    "n01644900",
    "n01855672",
    "n02002724",
    "n02056570",
    "n02058221",
    "n02085620",
    "n02094433",
    "n02099601",
    "n02099712",
    "n02106662",
    "n02113799",
    "n02123045",
    "n02123394",
    "n02124075",
    "n02423022",
    "n02814533",
    "n03100240",
    "n03444034",
    "n03447447",
    "n03662601",
    "n03670208",
    "n03796401",
    "n03977966",
    "n04146614",
    "n04285008",
    "n04465501",
    "n04487081",
}


def load(source: DataSet, split: Split, data: Data) -> Dataset:
    """One split of a published set, its images in the order of their pixels' digests.

    Raises UserError if it can neither be read nor downloaded, or if images are missing or not the published ones and
    `partial` is not set.
    """
    read = _tiny_imagenet if source.source == "tiny_imagenet" else _torchvision
    files = Path(source.root) / SETS[source.source].files.format(split=split)
    try:
        dataset = read(source, split, data, download=False) or _class_folders(source, split, data)
    except UserError:
        raise
    except Exception as error:  # a reader can raise any error for damaged files
        raise UserError(
            f"{source.source}: {files} cannot be read ({_reason(error)}); put the published files there anew"
        ) from None
    try:
        dataset = dataset or read(source, split, data, download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{source.source}: the download failed ({_reason(error)}). Check the connection, or put the published "
            f"files at {files}, "
            f"or images at {Path(source.root) / source.source / split}/<class>/"
        ) from None
    dataset = by_digest(complete(dataset, source, split))
    expected = SETS[source.source].fingerprints.get(split)
    if expected not in (None, dataset.fingerprint) and not source.partial:
        raise UserError(
            f"{source.title}: the {split} images below {source.root} are not the published ones; `partial: true` "
            "takes them"
        )
    return dataset


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def complete(dataset: Dataset, source: DataSet, split: Split) -> Dataset:
    """The data set if no image is missing, or, with `partial`, under a name that says how many there are. Raises
    UserError otherwise."""
    expected = SETS[source.source].counts[split]
    if len(dataset) == expected:
        return dataset
    if not source.partial:
        raise UserError(
            f"{source.title}: {len(dataset)} of {expected} {split} images are below {source.root}; add the others, "
            "or set `partial: true`"
        )
    return replace(dataset, name=f"{dataset.name}-{len(dataset)}-of-{expected}")


def by_digest(dataset: Dataset) -> Dataset:
    """The images sorted by the SHA-256 of their pixels, and equal images by their labels."""
    digests = [hashlib.sha256(image.contiguous().numpy()).digest() for part in dataset.parts() for image in part]
    keys = list(zip(digests, dataset.labels.tolist()))
    return dataset.subset(torch.tensor(sorted(range(len(keys)), key=keys.__getitem__)))


def _torchvision(source: DataSet, split: Split, data: Data, download: bool) -> Dataset | None:
    """The published files, read by torchvision; None if they are missing and `download` is false."""
    part = {"split": split} if source.source == "svhn" else {"train": split == "train"}
    try:
        published = SETS[source.source].reader(source.root, download=download, **part)
    except RuntimeError:  # torchvision raises it for missing or damaged files
        if download:
            raise
        return None
    images, labels = np.asarray(published.data), published.labels if source.source == "svhn" else published.targets
    if source.source == "svhn":
        images = images.transpose(0, 2, 3, 1)
    images = torch.from_numpy(np.ascontiguousarray(images))
    names = [f"{source.source}-{split}-{i:05d}" for i in range(len(images))]
    classes = published.classes if source.source.startswith("cifar") else [str(digit) for digit in range(10)]
    images = images if images.ndim == 4 else images.unsqueeze(-1)
    return Dataset(source.title, images, torch.as_tensor(np.asarray(labels)).long(), names, list(classes))


def _class_folders(source: DataSet, split: Split, data: Data) -> Dataset | None:
    """Images in folders named by class (for digits and Fashion-MNIST by label); None if there are none."""
    root = Path(source.root) / source.source
    if not (root / split).is_dir():
        return None
    classes, files, labels = folder.labelled(
        source.title, root, split, LIKE_CIFAR10 if source.source == "tiny_imagenet" else set()
    )
    return _decoded(source, data, root, classes, files, labels)


def _tiny_imagenet(source: DataSet, split: Split, data: Data, download: bool) -> Dataset | None:
    """The published archive, whose validation images are the test split; None if it is missing and `download` is
    false."""
    root = Path(source.root) / SETS["tiny_imagenet"].files
    if not (root / "val/val_annotations.txt").is_file():
        if not download:
            return None
        address, digest = TINY_IMAGENET
        download_and_extract_archive(address, source.root, md5=digest)
    classes = [name for name in sorted((root / "wnids.txt").read_text().split()) if name not in LIKE_CIFAR10]
    if split == "train":
        by_class = [
            [str(path.relative_to(root)) for path in folder.images_below(root / "train" / name)] for name in classes
        ]
        files = [file for files in by_class for file in files]
        labels = [label for label, files in enumerate(by_class) for _ in files]
    else:
        rows = [line.split("\t") for line in (root / "val/val_annotations.txt").read_text().splitlines()]
        class_of = {row[0]: row[1] for row in rows if row[1] in classes}
        files = [f"val/images/{name}" for name in class_of]
        labels = [classes.index(name) for name in class_of.values()]
    return _decoded(source, data, root, classes, files, torch.tensor(labels))


def _decoded(source: DataSet, data: Data, root: Path, classes: list[str], files: list[str], labels: Tensor) -> Dataset:
    known = SETS[source.source]
    native = replace(data, size=known.side, channels=known.channels, augmentation=Augmentation(crop=0))
    return Dataset(
        source.title,
        folder.pixels_of(root, files, source.title, native),
        labels,
        list(map(folder.printable, files)),
        classes,
    )
