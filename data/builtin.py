"""Data sets that need no download: handwritten digits, and two kinds of images that are not digits."""

import string
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from configs.schema import Data, DataSet
from data.dataset import UNLABELLED, Dataset, Split

SIDE = 8  # pixels of scikit-learn's digits
# The text fonts of matplotlib.
FONTS = ("DejaVuSans", "DejaVuSerif", "STIXGeneral", "cmr10", "cmss10", "cmtt10", "cmb10")
LOOKALIKES = "BDGIOQSZbgiloqsz"  # letters that a reader could take for a digit


def digits(source: DataSet, split: Split, data: Data) -> Dataset:
    """scikit-learn's 1,797 handwritten digits (8x8 grey, 17 levels), a stratified 500 of them for the test, the same
    for every seed."""
    bunch = load_digits()
    images = (bunch.images * (255 / 16)).round().astype(np.uint8)[..., None]
    train, test = train_test_split(np.arange(len(images)), test_size=500, stratify=bunch.target, random_state=0)
    chosen = np.sort(test if split == "test" else train)
    names = [f"digit-{i:04d}" for i in chosen]
    classes = list("0123456789")
    return Dataset(
        source.title, torch.from_numpy(images[chosen]), torch.from_numpy(bunch.target[chosen]).long(), names, classes
    )


def letters(source: DataSet, split: Split, data: Data) -> Dataset:
    """Near out-of-distribution data for digits: letters in matplotlib's bundled fonts, made into images as the digits
    were.

    A letter is drawn black and white, fitted to 32x32 and counted in 4x4 blocks, which gives 8x8 images of 17 levels
    (Alpaydin & Kaynak 1998 did so with the digits). Letters that look like a digit are left out.
    """
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = [
        path for path in sorted(folder.glob("*.ttf")) if path.stem.startswith(FONTS) and "Display" not in path.stem
    ]
    classes = [letter for letter in string.ascii_letters if letter not in LOOKALIKES]
    pairs = [(path, letter) for path in fonts for letter in classes]
    images = np.stack([_draw(ImageFont.truetype(path, 64), letter) for path, letter in pairs])
    names = [f"{letter} in {path.stem}" for path, letter in pairs]
    labels = torch.arange(len(classes)).repeat(len(fonts))
    return Dataset(source.title, torch.from_numpy(images), labels, names, classes)


def _draw(font: ImageFont.FreeTypeFont, letter: str) -> np.ndarray:
    left, top, right, bottom = font.getbbox(letter)
    image = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(image).text((-left, -top), letter, fill=255, font=font)
    image.thumbnail((32, 32))
    square = Image.new("L", (32, 32))
    square.paste(image, ((32 - image.width) // 2, (32 - image.height) // 2))
    on = np.asarray(square) >= 128
    levels = on.reshape(SIDE, 4, SIDE, 4).sum(axis=(1, 3))
    return (levels * (255 / 16)).round().astype(np.uint8)[..., None]


def noise(source: DataSet, split: Split, data: Data) -> Dataset:
    """Far out-of-distribution data: 1,000 images of independent uniform pixels, in the size and channels that are asked
    for."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1000, *data.shape), dtype=torch.uint8, generator=generator)
    names = [f"noise-{i:04d}" for i in range(len(images))]
    return Dataset(source.title, images, torch.full((len(images),), UNLABELLED), names, [])
