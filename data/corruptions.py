"""Covariate shift of test images: ten corruptions of CIFAR-10-C, three shifts of Hydra+'s authors, and other class
priors.

The corruptions have the published constants for 32x32 images (Hendrycks & Dietterich 2019, `make_cifar_c.py`). Five of
CIFAR-10-C are left out: frost needs its authors' photographs, snow and motion blur ImageMagick, elastic OpenCV, and
glass blur moves pixels one by one.

Each is a function (float [N, H, W, C] in 0-1, strength, generator) → the same, and one line in `CORRUPTIONS`.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from numpy.random import Generator
from PIL import Image
from scipy import ndimage
from torchvision.transforms import functional as transforms

from data.dataset import Dataset
from data.shifts import coded, each_by_pil
from training.seeds import seed_of

SEVERITIES = (1, 3, 5)


def impulse_noise(x: ndarray, share: float, generator: Generator) -> ndarray:
    """A share of the values becomes 0 or 1."""
    hit = generator.random(x.shape) < share
    return np.where(hit, generator.random(x.shape) < 0.5, x)


def defocus_blur(x: ndarray, radius_and_sigma: tuple[float, float], _: Any) -> ndarray:
    """The average over a disk, whose edge is smoothed by three Gaussian weights."""
    radius, sigma = radius_and_sigma
    place = np.arange(-3, 4)
    disk = (place[:, None] ** 2 + place**2 <= radius**2).astype(float)
    edge = np.exp(-(place[2:5] ** 2) / (2 * sigma**2))
    edge = np.outer(edge, edge) / edge.sum() ** 2
    kernel = ndimage.correlate(disk / disk.sum(), edge, mode="constant")
    return ndimage.correlate(x, kernel[None, :, :, None], mode="mirror")


def zoom_blur(x: ndarray, largest: float, _: Any) -> ndarray:
    """The mean of the image and of its middle, enlarged to the image's size by several factors."""
    sides, zooms = np.array(x.shape[1:3]), np.arange(1, largest, 0.01)
    inner = [middle(x, *np.ceil(sides / zoom).astype(int)) for zoom in zooms]
    enlarged = [ndimage.zoom(part, (1, zoom, zoom, 1), order=1) for part, zoom in zip(inner, zooms)]
    return (x + sum(middle(image, *sides) for image in enlarged)) / (len(zooms) + 1)


def middle(x: ndarray, height: int, width: int) -> ndarray:
    """The middle of images, with `height` and `width` pixels."""
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    return x[:, top : top + height, left : left + width]


def fog(x: ndarray, thickness_and_decay: tuple[float, float], generator: Generator) -> ndarray:
    """A plasma fractal is added, and the image's range kept."""
    thickness, decay = thickness_and_decay
    largest = x.max((1, 2, 3), keepdims=True)
    count, height, width, _ = x.shape
    clouds = plasma(count, max(height, width), decay, generator)[:, :height, :width, None]
    return (x + thickness * clouds) * largest / (largest + thickness)


def plasma(count: int, size: int, decay: float, generator: Generator) -> ndarray:
    """Fractals [count, size, size] in 0-1: diamond-square on a torus, with random numbers that get `decay` times
    smaller at each step."""
    side = step = 1 << (size - 1).bit_length()
    field = np.zeros((count, side, side))
    wobble = 100.0

    def between(corners: ndarray) -> ndarray:
        return corners / 4 + wobble * generator.uniform(-wobble, wobble, corners.shape)

    while half := step // 2:
        corners = field[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, 1)
        field[:, half::step, half::step] = middles = between(pairs + np.roll(pairs, -1, 2))
        for row, column, axis in ((0, half, 1), (half, 0, 2)):
            around = middles + np.roll(middles, 1, axis) + corners + np.roll(corners, -1, 3 - axis)
            field[:, row::step, column::step] = between(around)
        step, wobble = half, wobble / decay
    field -= field.min((1, 2), keepdims=True)
    return (field / field.max((1, 2), keepdims=True))[:, :size, :size]


def brightness(x: ndarray, amount: float, _: Any) -> ndarray:
    """The value of hue, saturation and value is raised."""
    value = x.max(-1, keepdims=True)
    raised = (value + amount).clip(0, 1)
    return np.where(value > 0, x * raised / value.clip(1e-9), raised)


def contrast(x: ndarray, share: float, _: Any) -> ndarray:
    """The distance from each channel's mean is lowered."""
    mean = x.mean((1, 2), keepdims=True)
    return mean + share * (x - mean)


def pixelate(x: ndarray, share: float, _: Any) -> ndarray:
    """Made smaller, and larger again, by box filters."""
    size, box = (x.shape[2], x.shape[1]), Image.Resampling.BOX
    small = [int(side * share) for side in size]
    blocks = each_by_pil(lambda image: image.resize(small, box).resize(size, box), to_uint8(x))
    return blocks / 255


def to_uint8(x: ndarray) -> ndarray:
    """The nearest uint8 images."""
    return np.round(255 * x).astype(np.uint8)


def moved(x: ndarray, angle: float, down: int) -> ndarray:
    """Rotated and moved, nearest neighbours; what comes in is black."""
    planes = torch.from_numpy(x).permute(0, 3, 1, 2)
    return transforms.affine(planes, angle, [0, down], 1.0, [0.0]).permute(0, 2, 3, 1).numpy()


CORRUPTIONS = {  # name: the function, and its strength by severity, 1-5
    "gaussian_noise": (
        lambda x, sigma, draw: x + draw.normal(scale=sigma, size=x.shape),
        (0.04, 0.06, 0.08, 0.09, 0.1),
    ),
    "shot_noise": (lambda x, photons, draw: draw.poisson(x * photons) / photons, (500, 250, 100, 75, 50)),
    "impulse_noise": (impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus_blur": (defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "zoom_blur": (zoom_blur, (1.06, 1.11, 1.16, 1.21, 1.26)),
    "fog": (fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": (brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "pixelate": (pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg": (lambda x, quality, _: coded(to_uint8(x), quality) / 255, (80, 65, 58, 50, 40)),
    # Ferianc & Rodrigues 2022, who call the last one brightness; down by tenths of the height, lighter by tenths.
    "rotation": (lambda x, degrees, _: moved(x, degrees, 0), range(15, 90, 15)),
    "vertical_shift": (lambda x, tenths, _: moved(x, 0.0, round(0.1 * tenths * x.shape[1])), range(1, 6)),
    "exposure": (lambda x, tenths, _: x * (1 + 0.1 * tenths), range(1, 6)),
}
PRIORS = (2, 5, 10, 20, 50)  # how many times as frequent the first class is as the last one, by severity


def corrupted(images: ndarray, kind: str, severity: int, generator: Generator) -> ndarray:
    """uint8 images [N, H, W, C] after one of `CORRUPTIONS`; values are cut to integers, as the authors' code does."""
    change, strengths = CORRUPTIONS[kind]
    return (change(images / 255, strengths[severity - 1], generator).clip(0, 1) * 255).astype(np.uint8)


def shifted_sets(dataset: Dataset, count: int, seed: int) -> dict[str, dict[int, Dataset]]:
    """{shift: {severity: images}} of a fixed random sample of `count` images; `none` is the sample itself, of severity
    0.

    `class_priors` is another sample, of frequencies that fall from class to class in a geometric row.
    """
    drawn = torch.Generator().manual_seed(seed_of(seed, "shifted"))
    sample = dataset.subset(torch.randperm(len(dataset), generator=drawn)[:count])

    def after(kind: str, severity: int) -> Dataset:
        generator = np.random.default_rng(seed_of(seed, kind, severity))
        pixels = corrupted(sample.images.numpy(), kind, severity, generator)
        return replace(sample, pixels=torch.from_numpy(pixels), order=None)

    def with_priors(severity: int) -> Dataset:
        frequency = PRIORS[severity - 1] ** -(dataset.labels / max(1, len(dataset.classes) - 1))
        few = len(dataset) < 5 * len(sample)  # a class would run out of images
        return dataset.subset(torch.multinomial(frequency, len(sample), replacement=few, generator=drawn))

    sets = {"none": {0: sample}}
    sets |= {kind: {severity: after(kind, severity) for severity in SEVERITIES} for kind in CORRUPTIONS}
    sets["class_priors"] = {severity: with_priors(severity) for severity in SEVERITIES}
    for kind, by_severity in sets.items():
        for severity, shifted in by_severity.items():
            name = f"{dataset.name}-{kind}-{severity}".removesuffix("-0")
            by_severity[severity] = replace(shifted, name=name)
    return sets
