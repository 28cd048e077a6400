"""Does a config of ten lines train a usable network on a folder of photos, whatever their number and size?

    python experiments/own_folders.py          # some 40 minutes on one CPU core with bfloat16 instructions

Folders of images as a user has them, made from CIFAR-10, Fashion-MNIST (grey) and Tiny-ImageNet (64x64; five kinds of
things, each of ten classes). The config names only the folder and its size, so that configs/recipe.py chooses the
rest. Beside it: a small grid of networks and rates, with the same epochs and batches. Takes the sets from datasets/,
or downloads them (`--fashion` names another root of Fashion-MNIST's). Writes results/own_folders/; networks are in
runs/own_folders/. The same command again continues.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from dataclasses import dataclass
from functools import partial

from PIL import Image
from torch import Tensor

import data
from configs import cli
from configs.recipe import OPEN
from configs.schema import Config, Data, DataSet, TeacherSettings
from experiments import common
from methods.teacher import as_trained
from models.inference import outputs_of

KINDS = """
insects n02165456 n02190166 n02206856 n02226429 n02231487 n02233338 n02236044 n02268443 n02279972 n02281406
mammals n02395406 n02403003 n02410509 n02415577 n02437312 n02480495 n02481823 n02486410 n02504458 n02509815
food n07579787 n07583066 n07614500 n07615774 n07695742 n07711569 n07715103 n07720875 n07734744 n07747607
clothes n02669723 n02730930 n02837789 n02963159 n03404251 n03617480 n03770439 n03980874 n04371430 n04532106
buildings n02793495 n02814860 n02977058 n03042490 n03160309 n03837869 n04311004 n04417672 n04486054 n04562935
"""
KIND_OF = {wnid: kind for kind, *wnids in map(str.split, KINDS.strip().splitlines()) for wnid in wnids}
SETS = {"tiny_imagenet": (64, 3, 100), "fashion_mnist": (28, 1, 200), "cifar10": (32, 3, 200)}  # size, channels, tested
FOLDERS = [
    ("tiny_imagenet", 50),
    ("fashion_mnist", 100),
    ("cifar10", 100),
    ("tiny_imagenet", 100),
]  # images of each class
FOLDERS += [("fashion_mnist", 1000), ("cifar10", 1000), ("tiny_imagenet", 400)]
IN_GRID = FOLDERS[:2]
GRID = {
    f"{network} x {width}, {lr}": {"network": network, "width": width, "lr": lr}
    for network, width, lr in (("vgg7", 0.5, 0.1), ("vgg11", 0.5, 0.02), ("vgg11", 0.5, 0.1), ("resnet18", 0.25, 0.02))
}
CHOSEN = "chosen"


@dataclass
class Settings:
    """fashion: the root of Fashion-MNIST."""

    fashion: str = "datasets"
    seed: int = 0


def pool(name: str, split: str, settings: Settings) -> dict[str, list[Tensor]]:
    """The images [H, W, C] of each class. Only the validation images of Tiny-ImageNet are at hand: 400 are to train."""
    kinds, (size, channels, _) = name == "tiny_imagenet", SETS[name]
    source = DataSet(name, settings.fashion if name == "fashion_mnist" else "datasets", partial=True)
    images = data.load(source, "test" if kinds else split, Data(size=size, channels=channels))
    found: dict[str, list[Tensor]] = {}
    for pixels, label in zip(images.images, images.labels.tolist(), strict=True):
        title = images.classes[label]
        found.setdefault(KIND_OF.get(title, "other") if kinds else title, []).append(pixels)
    found.pop("other", None)
    part = (slice(400) if split == "train" else slice(400, None)) if kinds else slice(None)
    return {title: images[part] for title, images in found.items()}


def write_folder(root: Path, name: str, count: int, settings: Settings) -> None:
    """A folder of a user: `count` images of each class to train, others to test."""
    if (root / "test").exists():
        return
    for split, wanted in (("train", count), ("test", SETS[name][2])):
        for title, images in pool(name, split, settings).items():
            folder = root / f".{split}" / title
            folder.mkdir(parents=True, exist_ok=True)
            for i, pixels in enumerate(images[:wanted]):
                Image.fromarray(pixels.squeeze(-1).numpy()).save(folder / f"{i}.png")
        (root / f".{split}").rename(root / split)


def config_of(name: str, count: int, recipe: str, settings: Settings) -> Config:
    """What a user writes, and for a cell of the grid the settings of its network."""
    size, channels, _ = SETS[name]
    root = Path("runs/own_folders/images") / f"{name}-{count}"
    write_folder(root, name, count, settings)
    images = {"train": {"source": "folder", "root": str(root)}, "size": size, "channels": channels}
    changes = {"name": f"own_folders/{root.name}/{recipe}", "seed": settings.seed, "data": images}
    return cli.override(Config(), changes | {"teacher": GRID.get(recipe, {})}, "own_folders")


def measure(config: Config) -> dict:
    """The accuracy on test images, the minutes of training, and the settings of the network."""
    teacher, compute = common.train_teacher(config)
    test = data.load(config.data.train, "test", config.data)
    right = outputs_of(teacher.network, test, compute).argmax(1).cpu() == test.labels
    made = as_trained(config).teacher
    chosen = {name: getattr(made, name) for name in OPEN[TeacherSettings]}
    return {"accuracy": right.double().mean().item(), "minutes": teacher.seconds / 60, "settings": chosen}


def main(settings: Settings) -> None:
    """Measure each cell once, and write the page."""
    record = common.provenance(settings) | {"folders": {}}
    for name, count in FOLDERS:
        recipes = [CHOSEN, *(GRID if (name, count) in IN_GRID else ())]
        record["folders"][f"{name}, {count} a class"] = {
            recipe: common.kept(config.folder / "measured.json", config, partial(measure, config))
            for recipe in recipes
            for config in [config_of(name, count, recipe, settings)]
        }
    common.write("own_folders", record, tables)


def tables(record: dict) -> common.Tables:
    """A line for each folder: what was chosen, and the best of the grid."""
    rows = {}
    for title, cells in record["folders"].items():
        chosen, grid = cells[CHOSEN], {recipe: cells[recipe] for recipe in GRID if recipe in cells}
        rows[title] = {
            "chosen": "{network} x {width}, {lr}, {epochs} epochs of {batch_size}".format(**chosen["settings"]),
            "minutes": f"{chosen['minutes']:.1f}",
            "accuracy": chosen["accuracy"],
            "best of the others": max((cell["accuracy"] for cell in grid.values()), default=None),
        } | {recipe: grid[recipe]["accuracy"] if recipe in grid else None for recipe in GRID}
    caption = (
        "The teacher's accuracy on test images, without dropout: what is chosen where a config names nothing, and "
        "other networks (x width) and rates with the same epochs and batches; one seed. Larger folders were not "
        "trained with the others, which takes too long"
    )
    return {caption: rows}


if __name__ == "__main__":
    common.start(main, Settings, __doc__)
