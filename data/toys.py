"""Points of a plane: two classes in two half moons, three in a spiral, and the plane itself.

A point is an image of a single pixel with two channels: its coordinates, scaled from [-LIMIT, LIMIT] to 0-255. So other
modules treat it as an image.
"""

import math

import numpy as np
import torch
from sklearn.datasets import make_moons

from configs.schema import Data, DataSet
from data.dataset import UNLABELLED, Dataset, Split

LIMIT = 4.0
COUNT = {"train": 1500, "test": 1000}
SPIRAL = {"train": 300, "test": 1000}  # 300 in all in the authors' code
SIDE = 64  # points of the plane along each axis


def two_moons(source: DataSet, split: Split, data: Data) -> Dataset:
    """Two interleaved half moons with noise 0.15, as in Mukhoti et al. (2021)."""
    points, labels = make_moons(COUNT[split], noise=0.15, random_state=split == "test")
    return _dataset(source, (points - [0.5, 0.25]) * 1.2, labels, ["upper", "lower"])


def spiral(source: DataSet, split: Split, data: Data) -> Dataset:
    """The three arms of Ferianc & Rodrigues (2022), from their code: t (cos t, sin t) + u, turned by 0, 120 and 240
    degrees, with t = 2π √U(0, 1) and u ~ U(0, 0.5)². Their plane of ±20 becomes ±LIMIT."""
    rng = np.random.default_rng(split == "test")
    labels = np.arange(SPIRAL[split]) % 3
    t = 2 * math.pi * np.sqrt(rng.random(SPIRAL[split]))
    z = t * np.exp(1j * t) + rng.uniform(0, 0.5, (SPIRAL[split], 2)) @ [1, 1j]
    z *= np.exp(2j * math.pi / 3 * labels) * LIMIT / 20
    return _dataset(source, np.stack([z.real, z.imag], 1), labels, ["first", "second", "third"])


def plane(source: DataSet, split: Split, data: Data) -> Dataset:
    """A grid over the whole plane, row by row from the bottom."""
    axis = np.linspace(-LIMIT, LIMIT, SIDE)
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    return _dataset(source, points, np.full(len(points), UNLABELLED), [])


def _dataset(source: DataSet, points: np.ndarray, labels: np.ndarray, classes: list[str]) -> Dataset:
    levels = ((points + LIMIT) * (255 / (2 * LIMIT))).round().clip(0, 255).astype(np.uint8)
    names = [f"{source.title}-{i:04d}" for i in range(len(points))]
    images = torch.from_numpy(levels).view(-1, 1, 1, 2)
    return Dataset(source.title, images, torch.from_numpy(labels).long(), names, classes)
