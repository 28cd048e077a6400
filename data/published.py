"""The published data sets, downloaded and read by torchvision."""

from typing import Literal

import numpy as np
import torch
from torchvision import datasets

from configs.errors import UserError
from configs.schema import Data, DataSet
from data.dataset import Dataset

CLASSES = {
    "cifar10": datasets.CIFAR10,
    "cifar100": datasets.CIFAR100,
    "svhn": datasets.SVHN,
    "mnist": datasets.MNIST,
    "fashion_mnist": datasets.FashionMNIST,
    "kmnist": datasets.KMNIST,
}


def load(source: DataSet, split: Literal["train", "test"], data: Data) -> Dataset:
    """A data set of torchvision, downloaded to `source.root` at first use. Raises UserError if it cannot be had."""
    part = {"split": split} if source.source == "svhn" else {"train": split == "train"}
    try:
        published = CLASSES[source.source](source.root, download=True, **part)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{source.source}: not in {source.root} and the download failed ({reason}); "
            "check the connection, or copy the files there, or read images with `source: folder`"
        ) from None
    images = np.asarray(published.data)
    if source.source == "svhn":
        images = images.transpose(0, 2, 3, 1)
    images = torch.from_numpy(np.ascontiguousarray(images))
    labels = torch.as_tensor(np.asarray(published.labels if source.source == "svhn" else published.targets)).long()
    names = [f"{source.source}-{split}-{i:05d}" for i in range(len(images))]
    classes = [str(c) for c in getattr(published, "classes", range(10))]
    return Dataset(source.title, images if images.ndim == 4 else images.unsqueeze(-1), labels, names, classes)
