"""Data sets by name: images `uint8 [N, H, W, C]`, labels, and a name for each image.

A new data set is one function `(source, split, data) -> Dataset`, one line in `SOURCES` and its name in
`configs.schema.Source`.
"""

from dataclasses import replace
from pathlib import Path

import torch

from configs.errors import UserError
from configs.schema import Data, DataSet
from data import builtin, external, folder, published, toys
from data.dataset import Dataset, LazyPixels, Split
from data.resize import fit_to
from training import process_group
from training.external import is_external
from training.seeds import permutation

SOURCES = {
    "digits": builtin.digits,
    "letters": builtin.letters,
    "noise": builtin.noise,
    "two_moons": toys.two_moons,
    "spiral": toys.spiral,
    "plane": toys.plane,
    **dict.fromkeys(published.SETS, published.load),
    "folder": folder.load,
}


def load(source: DataSet, split: Split, data: Data) -> Dataset:
    """The images of one split, in the size and channels that `data` asks for. Raises UserError if something is
    missing."""
    with process_group.first_process_first():
        load = external.load if is_external(source.source) else SOURCES[source.source]
        dataset = load(source, split, data)
    return fitted(dataset, data)


def fitted(dataset: Dataset, data: Data) -> Dataset:
    """The data set in the size and channels that `data` asks for."""
    if dataset.shape == data.shape:
        return dataset
    if not dataset.lazy:
        return replace(dataset, pixels=fit_to(dataset.images, data.shape, data.resize), order=None)
    known = dataset.pixels
    pixels = LazyPixels(
        lambda i: fit_to(known.read(i).unsqueeze(0), data.shape, data.resize)[0],
        torch.Size((len(known), *data.shape)),
        f"{known.key} {data.resize}",
    )
    return replace(dataset, pixels=pixels)


Images = Dataset | torch.utils.data.Dataset | str | Path
"""What a data set can be made of: a data set of this project or of torch, or a folder of images."""


def dataset_of(images: Images, data: Data, classes: list[str]) -> Dataset:
    """A data set of `images`. Labels are indices into `classes`; the images of a folder, all below it, have no labels.

    Raises UserError for an item that is not an image, or a label that is not valid.
    """
    if isinstance(images, (str, Path)):
        source = DataSet("folder", str(images))
        return replace(folder.unlabelled(source.title, Path(images), data), classes=classes)
    return external.dataset_of(images, type(images).__name__, data, classes)


def load_train(data: Data, seed: int, train_on_all: bool = False) -> tuple[Dataset, Dataset | None]:
    """The in-distribution training images, split by seed into (training, validation), or all of them and None."""
    full = load(data.train, "train", data)
    require_labels(full, "training")
    if train_on_all:
        return full, None
    count = data.validation if data.validation >= 1 else max(1, round(data.validation * len(full)))
    if count >= len(full):
        raise UserError(f"data.validation: {data.validation} of {len(full)} training images leaves none to train on")
    order = permutation(len(full), seed)
    validation = full.subset(order[:count])
    return full.subset(order[count:]), replace(validation, name=f"{full.name}-validation")


def require_labels(dataset: Dataset, kind: str) -> None:
    """Raise UserError if an image of a set in distribution has no label."""
    if missing := int((dataset.labels < 0).sum()):
        raise UserError(f"{dataset.name}: {missing} {kind} images have no label")


def load_evaluation(data: Data, classes: list[str], seed: int) -> list[Dataset]:
    """The evaluation sets: the in-distribution test set first, then every out-of-distribution set."""
    test = load(data.train, "test", data)
    if data.train.source == "folder" and not test.classes:  # without a folder of that name, all images were taken
        missing = Path(data.train.root) / "test"
        raise UserError(f"{data.train.title}: no folder {missing}/<class>/ with images; test images belong there")
    if test.classes != classes:
        other = min(set(test.classes) ^ set(classes), default=None)
        what = f"class {other!r} is not both" if other else "the classes are not in the same order"
        raise UserError(f"{data.train.title}: {what} in the test set and in the teacher's training set")
    require_labels(test, "test")
    sets = [test]
    for source in data.ood:
        ood = load(source, "test", data)
        if data.max_ood is not None and len(ood) > data.max_ood:
            ood = ood.subset(permutation(len(ood), seed)[: data.max_ood])
        sets.append(ood)
    names = [dataset.name for dataset in sets]
    if len(set(names)) < len(names):
        raise UserError(f"data.ood: two evaluation sets have the same name ({', '.join(names)}); give one a `name`")
    return sets


def shared(train: Dataset, test: Dataset) -> int:
    """How many test images are training images too, by their pixels; images that are decoded on demand are not
    compared."""
    if train.lazy or test.lazy:
        return 0
    known = set(train.digests())
    return sum(digest in known for digest in test.digests())
