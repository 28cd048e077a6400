"""Strong changes and synthetic shifts of images, image by image against NumPy and SciPy; people's labels in both
forms."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage
import torch

from configs.errors import UserError
from data import distort, humans
from data.dataset import Dataset
from data.shifts import SHIFTS, shifted

RNG = np.random.default_rng(0)


def picture(count: int = 3, channels: int = 3) -> torch.Tensor:
    smooth = scipy.ndimage.gaussian_filter(RNG.random((count, channels, 16, 16)), (0, 0, 1.5, 1.5), mode="nearest")
    return torch.from_numpy(255 * smooth).float()


def dataset(channels: int = 3) -> Dataset:
    images = picture(8, channels).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return Dataset("toy", images, torch.arange(8), [f"{i}.png" for i in range(8)], ["a"])


def test_warp_against_scipy():
    images, angle, zoom = picture(channels=1), torch.tensor([0.3, -0.5, 0.0]), torch.tensor([1.4, 0.8, 1.0])
    for image, found, a, z in zip(images, distort.warp(images, angle, zoom), angle.tolist(), zoom.tolist()):
        matrix = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) / z
        offset = 7.5 - matrix @ [7.5, 7.5]
        expected = scipy.ndimage.affine_transform(image[0].numpy(), matrix, offset, order=1, mode="grid-mirror")
        assert found[0].numpy() == pytest.approx(expected, abs=1)


def test_blur_against_scipy():
    images, share = picture(), torch.tensor([0.0, 0.5, 1.0])
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])[None, None] / 256
    blurred = torch.from_numpy(scipy.ndimage.convolve(images.numpy(), kernel, mode="nearest"))
    expected = torch.lerp(images, blurred, share.view(3, 1, 1, 1))
    torch.testing.assert_close(distort.blur(images, share), expected, rtol=1e-4, atol=0)


def test_patches_move_and_nothing_is_lost():
    def patches(images):
        return images.unfold(2, 4, 4).unfold(3, 4, 4).flatten(2, 3)  # [N, C, 16, 4, 4]

    images, order = picture(), torch.rand(3, 16).argsort()
    expected = [image[:, places] for image, places in zip(patches(images), order)]
    assert torch.equal(patches(distort.shuffle_patches(images, order)), torch.stack(expected))


@pytest.mark.parametrize("kind", SHIFTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_shift_is_fixed_by_its_seed_and_changes_every_image(kind, channels):
    original = dataset(channels)
    first, again, other = (shifted(original, kind, seed) for seed in (0, 0, 1))
    assert first.name == f"toy-{kind}" and first.images.shape == original.images.shape
    assert first.images.dtype == torch.uint8 and torch.equal(first.images, again.images)
    assert torch.equal(first.images, other.images) == (kind in ("pixelate", "jpeg"))
    assert (first.images != original.images).flatten(1).any(1).all()


# People's labels.

NAMES = ["test/b/y.png", "test/a/x.png", "test/b/z.png"]
LABELLED = Dataset("toy", torch.zeros(3, 1, 1, 3), torch.zeros(3), NAMES, ["a", "b"])


def labels(path, *rows: str, classes: str = "b,a", of: Dataset = LABELLED) -> list[list[int]]:
    """What a table with these rows says of the images."""
    path.write_text("\n".join([f"test_index,image,{classes}", *rows]))
    return humans.load(path, of).tolist()


def test_labels_by_image(tmp_path):
    path, rows = tmp_path / "h.csv", ["0,test/a/x.png,8,40", "1,test/b/y.png,50,0", "2,test/b/z.png,25,25"]
    assert labels(path, *rows) == [[0, 50], [40, 8], [25, 25]]
    by_index = replace(LABELLED, names=[f"cifar10-test-{i:05d}" for i in range(3)])
    assert labels(path, *rows, of=by_index) == [[40, 8], [0, 50], [25, 25]]
    for said, given, classes in (
        ("no labels for 1 images, such as test/b/z.png", rows[:2], "b,a"),
        ("no column 'b'", rows, "c,a"),
        ("two rows of image test/a/x.png", [*rows, "3,test/a/x.png,1,1"], "b,a"),
    ):
        with pytest.raises(UserError, match=said):
            labels(path, *given, classes=classes)


def test_labels_in_the_authors_form(tmp_path):
    path = tmp_path / "counts.npy"
    np.save(path, np.array([[40, 8], [0, 50], [25, 25]]))
    with pytest.raises(UserError, match="need CIFAR-10's own files"):
        humans.load(path, LABELLED)
    cifar10 = replace(LABELLED, names=[f"cifar10-test-{i:05d}" for i in (2, 0, 1)])
    assert humans.load(path, cifar10).tolist() == [[25, 25], [40, 8], [0, 50]]
    np.save(path, np.zeros((4, 2)))
    with pytest.raises(UserError, match="labels of shape"):
        humans.load(path, cifar10)


@pytest.mark.parametrize("row", ["0,0", "nan,3", "-1,51", "x,3", "3"])
def test_labels_that_are_no_counts_are_named(tmp_path, row):
    with pytest.raises(UserError, match="h.csv: .*(test/b/y.png|cannot be read as people)"):
        labels(tmp_path / "h.csv", "0,test/a/x.png,40,8", f"1,test/b/y.png,{row}", "2,test/b/z.png,25,25")


@pytest.mark.parametrize("name, content", [("h.csv", b"\xff\x00,"), ("h.npy", b"\x93NUMPY"), ("g.npy", b"")])
def test_damaged_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        humans.load(tmp_path / name, LABELLED)
