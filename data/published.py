"""The published data sets, by name: from their own files, or from class folders, else downloaded.

Below `root` (default `datasets`) a set is looked for in two forms: the files that its authors published, as torchvision
keeps them, and class folders `<root>/<source>/<split>/<class>/*.png`. The images are put in the order of their pixels'
digests. So both forms give the same data set, with one fingerprint, and the same results.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import download_and_extract_archive

from configs.errors import UserError
from configs.schema import Augmentation, Data, DataSet
from data import folder
from data.dataset import Dataset, Split


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


CIFAR = {"train": 50_000, "test": 10_000}
MNIST = {"train": 60_000, "test": 10_000}
SETS = {
    "cifar10": Published(
        "cifar-10-batches-py/",
        CIFAR,
        32,
        3,
        datasets.CIFAR10,
        {"train": "71cf71fbae196ade", "test": "a4aafc27636d8e02"},
    ),
    "cifar100": Published("cifar-100-python/", CIFAR, 32, 3, datasets.CIFAR100, {"test": "8549619d92b50f52"}),
    "svhn": Published("{split}_32x32.mat", {"train": 73_257, "test": 26_032}, 32, 3, datasets.SVHN),
    "mnist": Published(
        "MNIST/raw/", MNIST, 28, 1, datasets.MNIST, {"train": "66dea0c923757382", "test": "08c34308319490af"}
    ),
    "fashion_mnist": Published(
        "FashionMNIST/raw/",
        MNIST,
        28,
        1,
        datasets.FashionMNIST,
        {"train": "62ad0d57f9b195c6", "test": "225e4d5f64388640"},
    ),
    "kmnist": Published("KMNIST/raw/", MNIST, 28, 1, datasets.KMNIST),
    "tiny_imagenet": Published("tiny-imagenet-200/", {"train": 86_000, "test": 8_600}, 64, 3),
}

TINY_IMAGENET = ("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de")  # address, MD5
# The 28 classes of Tiny-ImageNet that show objects of CIFAR-10's classes; they are left out.
LIKE_CIFAR10 = """
n01641577 n01644900 n01855672 n02002724 n02056570 n02058221 n02085620 n02094433 n02099601 n02099712 n02106662
n02113799 n02123045 n02123394 n02124075 n02423022 n02814533 n03100240 n03444034 n03447447 n03662601 n03670208
n03796401 n03977966 n04146614 n04285008 n04465501 n04487081
""".split()


def load(source: DataSet, split: Split, data: Data) -> Dataset:
    """One split of a published set, its images in the order of their pixels' digests.

    Raises UserError if it can neither be read nor downloaded, or if images are missing or not the published ones and
    `partial` is not set.
    """
    name, known = source.source, SETS[source.source]
    read = _tiny_imagenet if name == "tiny_imagenet" else _torchvision
    files, folders = Path(source.root) / known.files.format(split=split), Path(source.root) / name / split
    try:
        dataset = read(source, split, data, download=False) or _class_folders(source, split, data)
        dataset = dataset or read(source, split, data, download=True)
    except UserError:
        raise
    except Exception as error:  # a reader can raise any error for damaged files
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(
            f"{name}: {files} cannot be read or downloaded ({reason}). Check the connection, or put the published "
            f"files there anew, or images at {folders}/<class>/"
        ) from None
    keys = list(zip(dataset.digests(), dataset.labels.tolist()))  # equal images are in the order of their labels
    dataset = dataset.subset(torch.tensor(sorted(range(len(keys)), key=keys.__getitem__)))
    count, expected = len(dataset), known.counts[split]
    if source.partial:
        return dataset if count == expected else replace(dataset, name=f"{dataset.name}-{count}-of-{expected}")
    if count != expected:
        raise UserError(
            f"{source.title}: {count} of {expected} {split} images are below {source.root}; add the others, or set "
            "`partial: true`"
        )
    if known.fingerprints.get(split, dataset.fingerprint) != dataset.fingerprint:
        raise UserError(
            f"{source.title}: the {split} images below {source.root} are not the published ones; `partial: true` "
            "takes them"
        )
    return dataset


def _torchvision(source: DataSet, split: Split, data: Data, download: bool) -> Dataset | None:
    """The published files, read by torchvision; None if they are missing and `download` is false."""
    name = source.source
    svhn = name == "svhn"
    try:
        part = {"split": split} if svhn else {"train": split == "train"}
        published = SETS[name].reader(source.root, download=download, **part)
    except RuntimeError:  # torchvision raises it for missing or damaged files
        if download:
            raise
        return None
    images = torch.as_tensor(published.data)
    if svhn:
        images = images.permute(0, 2, 3, 1).contiguous()
    elif images.ndim == 3:
        images = images.unsqueeze(-1)
    labels = torch.as_tensor(published.labels if svhn else published.targets).long()
    names = [f"{name}-{split}-{i:05d}" for i in range(len(images))]
    classes = list(published.classes if name.startswith("cifar") else "0123456789")
    return Dataset(source.title, images, labels, names, classes)


def _class_folders(source: DataSet, split: Split, data: Data) -> Dataset | None:
    """Images in folders named by class (for digits and Fashion-MNIST by label); None if there are none."""
    root = Path(source.root) / source.source
    if not (root / split).is_dir():
        return None
    classes = folder.class_folders(source.title, root, split)
    if source.source == "tiny_imagenet":
        classes = [name for name in classes if name not in LIKE_CIFAR10]
    return _decoded(source, data, root, *folder.labelled(root, root / split, classes), classes)


def _tiny_imagenet(source: DataSet, split: Split, data: Data, download: bool) -> Dataset | None:
    """The published archive, whose validation images are the test split; None if it is missing and `download` is
    false."""
    root = Path(source.root) / SETS["tiny_imagenet"].files
    annotations = root / "val/val_annotations.txt"
    if download:
        address, digest = TINY_IMAGENET
        download_and_extract_archive(address, source.root, md5=digest)
    elif not annotations.is_file():
        return None
    classes = sorted(set((root / "wnids.txt").read_text().split()).difference(LIKE_CIFAR10))
    if split == "train":
        return _decoded(source, data, root, *folder.labelled(root, root / "train", classes), classes)
    class_of = dict(line.split("\t")[:2] for line in annotations.read_text().splitlines())
    files = [name for name in class_of if class_of[name] in classes]
    labels = torch.tensor([classes.index(class_of[name]) for name in files])
    return _decoded(source, data, root, [f"val/images/{name}" for name in files], labels, classes)


def _decoded(source: DataSet, data: Data, root: Path, files: list[str], labels: Tensor, classes: list[str]) -> Dataset:
    known = SETS[source.source]
    native = replace(data, size=known.side, channels=known.channels, augmentation=Augmentation(crop=0))
    return folder.decoded(source.title, root, files, labels, classes, native)
