"""Corruptions against what their definitions give, and the sets that a comparison is measured on."""

import colorsys

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from data.corruptions import CORRUPTIONS, PRIORS, corrupted, plasma, shifted_sets
from data.dataset import Dataset

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(60, 190, (6, 32, 32, 3)).astype(np.uint8)
GREY = np.full((40, 32, 32, 3), 100, np.uint8)


def changed(kind: str, severity: int, images: np.ndarray = IMAGES) -> np.ndarray:
    return corrupted(images, kind, severity, np.random.default_rng(1)).astype(float) / 255


def test_noise_has_the_published_strength():
    x = 100 / 255
    assert changed("gaussian_noise", 5, GREY).std() == pytest.approx(0.10, rel=0.02)
    assert changed("gaussian_noise", 1, GREY).std() == pytest.approx(0.04, rel=0.02)
    assert changed("shot_noise", 3, GREY).var() == pytest.approx(x / 100, rel=0.03)
    values, counts = np.unique(changed("impulse_noise", 5, GREY), return_counts=True)
    assert values.tolist() == pytest.approx([0, x, 1]) and counts / counts.sum() == pytest.approx(
        [0.035, 0.93, 0.035], rel=0.06
    )


def test_contrast_and_light_are_what_their_formulas_say():
    x = IMAGES / 255
    mean = x.mean((1, 2), keepdims=True)
    assert changed("contrast", 3) == pytest.approx(mean + 0.4 * (x - mean), abs=1 / 255)
    assert changed("exposure", 2) == pytest.approx((1.2 * x).clip(0, 1), abs=1 / 255)
    pixels = [colorsys.rgb_to_hsv(*pixel) for pixel in x[0].reshape(-1, 3)]
    lighter = [colorsys.hsv_to_rgb(hue, saturation, min(1, value + 0.2)) for hue, saturation, value in pixels]
    assert changed("brightness", 4)[0].reshape(-1, 3) == pytest.approx(np.array(lighter), abs=1 / 255)
    assert changed("brightness", 1, np.zeros((1, 8, 8, 3), np.uint8)) == pytest.approx(0.05, abs=1 / 255)


def test_fog_is_a_field_of_mean_one_half():
    fields = plasma(2000, 32, 3.0, np.random.default_rng(0))
    assert fields.shape == (2000, 32, 32) and fields.min((1, 2)).max() == 0 and fields.max((1, 2)).min() == 1
    assert np.abs(fields.mean(0) - 0.5).max() < 0.03
    whole = np.full((500, 32, 32, 3), 255, np.uint8)
    assert changed("fog", 4, whole).mean() == pytest.approx((1 + 0.5) / 2, abs=0.02)  # (x + 1 · clouds) max / (max + 1)


@pytest.mark.parametrize("count", [500, 80])
def test_class_frequencies_fall_in_a_geometric_row_whatever_the_share_of_the_images(monkeypatch, count):
    monkeypatch.setattr("data.corruptions.CORRUPTIONS", {})
    labels = torch.arange(500) % 10
    images = torch.zeros(500, 2, 2, 1, dtype=torch.uint8)
    found = shifted_sets(Dataset("x", images, labels, [""] * 500, list("abcdefghij")), count, 0)["class_priors"]
    for severity, shifted in found.items():
        expected = PRIORS[severity - 1] ** (-np.arange(10) / 9)
        counts = shifted.labels.bincount(minlength=10).numpy()
        assert chisquare(counts, count * expected / expected.sum()).pvalue > 1e-3


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 20, 3)])
def test_a_corruption_fits_any_image_and_grows_with_its_severity(kind, shape):
    images = np.random.default_rng(0).integers(0, 256, (20, *shape)).astype(np.uint8)
    mild, strong = (corrupted(images, kind, severity, np.random.default_rng(0)) for severity in (1, 5))
    assert mild.shape == strong.shape == images.shape and mild.dtype == strong.dtype == np.uint8
    distance = [np.abs(changed.astype(float) - images).mean() for changed in (mild, strong)]
    assert 0 < distance[0] < distance[1] or kind == "rotation"
