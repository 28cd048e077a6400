"""Does a config of ten lines train a usable network on a folder of photos, whatever their number and size?

    python -m experiments.own_folders          # some two hours on one CPU core with bfloat16 instructions

Folders as a user has them, made from CIFAR-10, Fashion-MNIST (grey) and Tiny-ImageNet (64x64; five kinds of ten classes
each). The config names only folder and size: configs/recipe.py chooses the rest. Beside it: other networks and rates,
with the same epochs and batches. Takes the sets from datasets/, or downloads them. Writes results/own_folders/; images
and networks are in runs/own_folders/. The same command again continues.
"""

from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated

from PIL import Image
from pydantic import Field

import data
from configs import cli
from configs.schema import Config, Data, DataSet, Seed, dataclass
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
SETS = {  # the split with the images to train on, the size, channels, and the images of each class to test on
    "tiny_imagenet": ("test", 64, 3, slice(400, 500)),  # its validation images serve both
    "fashion_mnist": ("train", 28, 1, slice(200)),
    "cifar10": ("train", 32, 3, slice(200)),
}
Folder = Annotated[str, Field(pattern=rf"^({'|'.join(SETS)})-[1-9]\d*$")]
FOLDERS = """tiny_imagenet-50 tiny_imagenet-100 tiny_imagenet-400 fashion_mnist-100 fashion_mnist-1000
    cifar10-100 cifar10-1000 cifar10-5000"""
GRID = {
    f"{network} x {width}, {lr}": {"network": network, "width": width, "lr": lr}
    for network, width, lr in (("vgg7", 0.5, 0.1), ("vgg11", 0.5, 0.02), ("resnet18", 0.25, 0.02))
}


@dataclass
class Settings:
    """What can be set on the command line."""

    folders: list[Folder] = field(default_factory=FOLDERS.split)
    """A set, and how many images of each class."""
    grid: list[Folder] = field(default_factory=lambda: ["tiny_imagenet-50", "cifar10-100", "cifar10-1000"])
    """Those in which other networks are trained too."""
    root: str = "datasets"
    """The folder of the published sets."""
    seed: Seed = 0


def write_folder(folder: str, settings: Settings) -> Path:
    """What a user has: images to train on, as many of each class as the folder's name says, and others to test on."""
    root, (name, _, count) = Path("runs/own_folders/images") / folder, folder.partition("-")
    source, size, channels, tested = SETS[name]
    for split, taken, part in (("train", source, slice(int(count))), ("test", "test", tested)):
        if (root / split).exists():
            continue
        published, found = DataSet(name, settings.root, partial=True), {}
        images = data.load(published, taken, Data(size=size, channels=channels))
        for pixels, label in zip(images.images, images.labels, strict=True):
            title = images.classes[label]
            found.setdefault(KIND_OF.get(title, title), []).append(pixels)
        for title in set(KIND_OF.values()) & found.keys() or found:
            place = root / f".{split}" / title
            place.mkdir(parents=True, exist_ok=True)
            for i, pixels in enumerate(found[title][part]):
                Image.fromarray(pixels.squeeze(-1).numpy()).save(place / f"{i}.png")
        (root / f".{split}").rename(root / split)
    return root


def measure(folder: str, recipe: str, settings: Settings) -> dict:
    """The accuracy on test images, the minutes of training, and the settings of the network. The config is what a user
    writes, and in the grid also a network with its rate."""
    root, (_, size, channels, _) = write_folder(folder, settings), SETS[folder.partition("-")[0]]
    images = {"train": {"source": "folder", "root": str(root)}, "size": size, "channels": channels}
    changes = {"name": f"own_folders/{folder}/{recipe}", "seed": settings.seed, "data": images}
    config = cli.override(Config(), changes | {"teacher": GRID.get(recipe, {})}, "own_folders")

    def measured():
        teacher, compute = common.train_teacher(config)
        test = data.load(config.data.train, "test", config.data)
        right = outputs_of(teacher.network, test, compute).argmax(1).cpu() == test.labels
        made = asdict(as_trained(config).teacher)
        return {"accuracy": right.double().mean().item(), "minutes": teacher.seconds / 60, "settings": made}

    return common.kept(config.folder / "measured.json", config, measured)


def main(settings: Settings) -> None:
    """Measure each cell once, and write the page."""
    folders = {}
    for folder in settings.folders:
        recipes = ["chosen", *(GRID if folder in settings.grid else ())]
        folders[folder] = {recipe: measure(folder, recipe, settings) for recipe in recipes}
    common.write("own_folders", common.provenance(settings) | {"folders": folders}, tables)


def tables(record: dict) -> common.Tables:
    """A line for each folder: what is chosen, and what others give."""
    rows = {}
    for folder, cells in record["folders"].items():
        chosen, accuracies = cells["chosen"], {recipe: cells.get(recipe, {}).get("accuracy") for recipe in GRID}
        what = "{network} x {width}, {lr}; {epochs} epochs of {batch_size}".format(**chosen["settings"])
        row = {"chosen": what, "minutes": f"{chosen['minutes']:.1f}", "accuracy": chosen["accuracy"]}
        rows[folder.replace("-", ", ") + " a class"] = row | accuracies
    caption = (
        "The teacher's accuracy on test images, without dropout: what is chosen where a config names nothing, and for "
        "some folders other networks (x width) and rates, with the same epochs and batches; one seed"
    )
    return {caption: rows}


if __name__ == "__main__":
    common.start(main, Settings, __doc__)
