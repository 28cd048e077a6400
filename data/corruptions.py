"""Covariate shift of test images: ten corruptions of CIFAR-10-C, three shifts of Hydra+'s authors, and other class
priors.

The corruptions have the published constants for 32x32 images (Hendrycks & Dietterich 2019, `make_cifar_c.py`). Five of
CIFAR-10-C are left out: frost needs its authors' photographs, snow and motion blur ImageMagick, elastic OpenCV, and
glass blur moves pixels one by one.

Each is a function (float [N, H, W, C] in 0-1, severity 1-5, generator) → the same in 0-1, and one line in
`CORRUPTIONS`.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy import ndarray
from numpy.random import Generator
from PIL import Image
from scipy import ndimage
from torchvision.transforms import functional as transforms

from data.dataset import Dataset
from data.shifts import coded
from training.seeds import seed_of

SEVERITIES = (1, 3, 5)


def gaussian_noise(x: ndarray, severity: int, generator: Generator) -> ndarray:
    """x + N(0, σ²)."""
    return x + generator.normal(scale=(0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1], size=x.shape)


def shot_noise(x: ndarray, severity: int, generator: Generator) -> ndarray:
    """Poisson(c x) / c."""
    c = (500, 250, 100, 75, 50)[severity - 1]
    return generator.poisson(x * c) / c


def impulse_noise(x: ndarray, severity: int, generator: Generator) -> ndarray:
    """A share of the values becomes 0 or 1."""
    hit = generator.random(x.shape) < (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    return np.where(hit, generator.random(x.shape) < 0.5, x)


def defocus_blur(x: ndarray, severity: int, generator: Generator) -> ndarray:
    """The average over a disk, whose edge is smoothed by three Gaussian weights."""
    radius, sigma = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    place = np.arange(-3, 4)
    disk = (place[:, None] ** 2 + place**2 <= radius**2).astype(float)
    edge = np.exp(-(np.array([-1, 0, 1]) ** 2) / (2 * sigma**2))
    edge = np.outer(edge, edge) / edge.sum() ** 2
    kernel = ndimage.correlate(disk / disk.sum(), edge, mode="constant")
    return ndimage.correlate(x, kernel[None, :, :, None], mode="mirror")


def zoom_blur(x: ndarray, severity: int, generator: Generator) -> ndarray:
    """The mean of the image and of zoomed ones."""
    zooms = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1], 0.01)
    return (x + sum(zoomed(x, zoom) for zoom in zooms)) / (len(zooms) + 1)


def zoomed(x: ndarray, zoom: float) -> ndarray:
    """The middle of each image, enlarged to the image's size."""
    size = x.shape[1]
    inner = int(np.ceil(size / zoom))
    top = (size - inner) // 2
    large = ndimage.zoom(x[:, top : top + inner, top : top + inner], (1, zoom, zoom, 1), order=1)
    top = (large.shape[1] - size) // 2
    return large[:, top : top + size, top : top + size]


def fog(x: ndarray, severity: int, generator: Generator) -> ndarray:
    """A plasma fractal is added, and the image's range kept."""
    thickness, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))[severity - 1]
    largest = x.max((1, 2, 3), keepdims=True)
    clouds = plasma(len(x), x.shape[1], decay, generator)[..., None]
    return (x + thickness * clouds) * largest / (largest + thickness)


def plasma(count: int, size: int, decay: float, generator: Generator) -> ndarray:
    """Fractals [count, size, size] in 0-1: diamond-square on a torus, with random numbers that get `decay` times
    smaller at each step."""
    side = 1 << (size - 1).bit_length()
    field = np.zeros((count, side, side))
    step, wobble = side, 100.0

    def between(corners: ndarray) -> ndarray:
        return corners / 4 + wobble * generator.uniform(-wobble, wobble, corners.shape)

    while step >= 2:
        half = step // 2
        corners = field[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, 1)
        field[:, half::step, half::step] = between(pairs + np.roll(pairs, -1, 2))
        middles = field[:, half::step, half::step]
        corners = field[:, ::step, ::step]
        field[:, ::step, half::step] = between(middles + np.roll(middles, 1, 1) + corners + np.roll(corners, -1, 2))
        field[:, half::step, ::step] = between(middles + np.roll(middles, 1, 2) + corners + np.roll(corners, -1, 1))
        step, wobble = half, wobble / decay
    field -= field.min((1, 2), keepdims=True)
    return (field / field.max((1, 2), keepdims=True))[:, :size, :size]


def brightness(x: ndarray, severity: int, generator: Generator) -> ndarray:
    """The value of hue, saturation and value is raised."""
    value = x.max(-1, keepdims=True)
    raised = (value + (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]).clip(0, 1)
    return np.where(value > 0, x * raised / value.clip(1e-9), raised)


def contrast(x: ndarray, severity: int, generator: Generator) -> ndarray:
    """The distance from each channel's mean is lowered."""
    mean = x.mean((1, 2), keepdims=True)
    return mean + (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1] * (x - mean)


def pixelate(x: ndarray, severity: int, generator: Generator) -> ndarray:
    """Made smaller, and larger again, by box filters."""
    size = x.shape[1]
    small = int(size * (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1])

    def coarse(image: ndarray) -> ndarray:
        made = (
            Image.fromarray(image.squeeze())
            .resize((small, small), Image.Resampling.BOX)
            .resize((size, size), Image.Resampling.BOX)
        )
        return np.asarray(made).reshape(image.shape)

    return np.stack([coarse(image) for image in to_uint8(x)]) / 255


def jpeg(x: ndarray, severity: int, generator: Generator) -> ndarray:
    """JPEG of low quality."""
    return coded(to_uint8(x), (80, 65, 58, 50, 40)[severity - 1]) / 255


def to_uint8(x: ndarray) -> ndarray:
    """The nearest uint8 images."""
    return np.round(255 * x).astype(np.uint8)


def rotation(x: ndarray, severity: int, generator: Generator) -> ndarray:
    """Rotated by 15 degrees for each step; black corners (Ferianc & Rodrigues 2022)."""
    return moved(x, angle=15 * severity)


def vertical_shift(x: ndarray, severity: int, generator: Generator) -> ndarray:
    """Moved down by a tenth of the height for each step; black above (Ferianc & Rodrigues 2022)."""
    return moved(x, down=round(0.1 * severity * x.shape[1]))


def moved(x: ndarray, angle: float = 0.0, down: int = 0) -> ndarray:
    """Rotated and moved, nearest neighbours."""
    planes = torch.from_numpy(x).permute(0, 3, 1, 2)
    return transforms.affine(planes, angle, [0, down], 1.0, [0.0]).permute(0, 2, 3, 1).numpy()


def exposure(x: ndarray, severity: int, generator: Generator) -> ndarray:
    """Each value 1.1 to 1.5 times as high (Ferianc & Rodrigues 2022 call it brightness)."""
    return x * (1 + 0.1 * severity)


CORRUPTIONS = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "zoom_blur": zoom_blur,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "pixelate": pixelate,
    "jpeg": jpeg,
    "rotation": rotation,
    "vertical_shift": vertical_shift,
    "exposure": exposure,
}
PRIORS = (2, 5, 10, 20, 50)  # how many times as frequent the first class is as the last one, by severity


def corrupted(images: ndarray, kind: str, severity: int, generator: Generator) -> ndarray:
    """uint8 images [N, H, W, C] after one of `CORRUPTIONS`."""
    return (CORRUPTIONS[kind](images / 255, severity, generator).clip(0, 1) * 255).astype(
        np.uint8
    )  # cut, as the authors' code does


def shifted_sets(dataset: Dataset, count: int, seed: int) -> dict[str, dict[int, Dataset]]:
    """{shift: {severity: images}} of a fixed random sample of `count` images; `none` is the sample itself, of severity
    0.

    `class_priors` is another sample, of frequencies that fall from class to class in a geometric row.
    """
    drawn = torch.Generator().manual_seed(seed_of(seed, "shifted"))
    sample = dataset.subset(torch.randperm(len(dataset), generator=drawn)[:count])
    sample = replace(sample, name=f"{dataset.name}-none")
    sets: dict[str, dict[int, Dataset]] = {"none": {0: sample}}
    for kind in CORRUPTIONS:
        sets[kind] = {}
        for severity in SEVERITIES:
            pixels = corrupted(
                sample.images.numpy(), kind, severity, np.random.default_rng(seed_of(seed, kind, severity))
            )
            sets[kind][severity] = replace(
                sample, name=f"{dataset.name}-{kind}-{severity}", pixels=torch.from_numpy(pixels), order=None
            )
    sets["class_priors"] = {}
    for severity in SEVERITIES:
        frequency = PRIORS[severity - 1] ** -(dataset.labels / max(1, len(dataset.classes) - 1))
        chosen = torch.multinomial(frequency, len(sample), generator=drawn)
        sets["class_priors"][severity] = replace(dataset.subset(chosen), name=f"{dataset.name}-class_priors-{severity}")
    return sets
