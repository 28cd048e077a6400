"""Strong changes and synthetic shifts of images, image by image against NumPy and SciPy; people's labels in both
forms."""

import io
from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image

from configs.errors import UserError
from data import distort, humans
from data.dataset import Dataset
from data.shifts import SHIFTS, shifted

RNG = np.random.default_rng(0)


def picture(count: int = 3, channels: int = 3, size: int = 16) -> torch.Tensor:
    smooth = scipy.ndimage.gaussian_filter(RNG.random((count, channels, size, size)), (0, 0, 1.5, 1.5), mode="nearest")
    return torch.from_numpy(255 * smooth).float()


def dataset(channels: int = 3) -> Dataset:
    images = picture(8, channels).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return Dataset("toy", images, torch.arange(8), [f"{i}.png" for i in range(8)], ["a"])


def test_warp_against_scipy():
    images, angle, zoom = picture(), torch.tensor([0.3, -0.5, 0.0]), torch.tensor([1.4, 0.8, 1.0])
    for image, found, a, z in zip(images, distort.warp(images, angle, zoom), angle.tolist(), zoom.tolist()):
        matrix = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) / z
        centre = np.array([7.5, 7.5])
        expected = [
            scipy.ndimage.affine_transform(plane, matrix, centre - matrix @ centre, order=1, mode="grid-mirror")
            for plane in image.numpy()
        ]
        assert np.abs(found.numpy() - np.array(expected)).max() < 1


def test_blur_against_scipy():
    images = picture()
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    blurred = np.array(
        [[scipy.ndimage.convolve(plane, kernel, mode="nearest") for plane in image] for image in images.numpy()]
    )
    found = distort.blur(images, torch.tensor([0.0, 0.5, 1.0])).numpy()
    assert found[0] == pytest.approx(images[0].numpy())
    assert found[1] == pytest.approx((images[1].numpy() + blurred[1]) / 2, rel=1e-4)
    assert found[2] == pytest.approx(blurred[2], rel=1e-4)


def test_light_and_colour():
    images = picture()
    negative = distort.light(images, torch.full((3,), -1.0), torch.zeros(3))
    torch.testing.assert_close(negative, 255 - images)
    order = torch.tensor([[2, 0, 1]] * 3)
    torch.testing.assert_close(distort.recolour(images, order, torch.zeros(3)), images[:, [2, 0, 1]])
    grey = distort.recolour(images, order, torch.ones(3))
    torch.testing.assert_close(grey[:, 1], images.mean(1))


def test_patches_move_and_nothing_is_lost():
    images = picture()
    order = torch.stack([torch.randperm(16) for _ in range(3)])
    found = distort.shuffle_patches(images, order)
    for n in range(3):
        for place in range(16):

            def patch(image, i):
                return image[:, 4 * (i // 4) : 4 * (i // 4) + 4, 4 * (i % 4) : 4 * (i % 4) + 4]

            assert torch.equal(patch(found[n], place), patch(images[n], order[n, place].item()))


@pytest.mark.parametrize("kind", SHIFTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_shift_is_fixed_by_its_seed_and_changes_every_image(kind, channels):
    original = dataset(channels)
    first, again, other = (shifted(original, kind, seed) for seed in (0, 0, 1))
    assert (
        first.name == f"toy-{kind}"
        and first.images.shape == original.images.shape
        and first.images.dtype == torch.uint8
    )
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.images, other.images) == (kind in ("pixelate", "jpeg"))
    assert all((a != b).any() for a, b in zip(first.images, original.images))


def test_pixelate_and_jpeg_by_hand():
    original = dataset()
    blocks = original.images.numpy().reshape(8, 8, 2, 8, 2, 3).mean((2, 4)).round()
    found = shifted(original, "pixelate", 0).images.numpy()
    assert np.abs(found - blocks.repeat(2, 1).repeat(2, 2)).max() <= 1
    buffer = io.BytesIO()
    Image.fromarray(original.images[3].numpy()).save(buffer, "JPEG", quality=10)
    assert np.array_equal(shifted(original, "jpeg", 0).images[3], np.asarray(Image.open(buffer)))


# People's labels.


@pytest.fixture
def labelled() -> Dataset:
    return Dataset(
        "toy", torch.zeros(3, 1, 1, 3), torch.zeros(3), ["test/b/y.png", "test/a/x.png", "test/b/z.png"], ["a", "b"]
    )


COUNTS = {"test/a/x.png": (40, 8), "test/b/y.png": (0, 50), "test/b/z.png": (25, 25)}


def test_labels_by_image(labelled, tmp_path):
    rows = [f"{i},{name},{b},{a}" for i, (name, (a, b)) in enumerate(COUNTS.items())]
    (tmp_path / "h.csv").write_text("\n".join(["test_index,image,b,a", *rows]))
    assert humans.load(tmp_path / "h.csv", labelled).tolist() == [[0, 50], [40, 8], [25, 25]]
    labelled = replace(labelled, names=[f"cifar10-test-{i:05d}" for i in range(3)])
    assert humans.load(tmp_path / "h.csv", labelled).tolist() == [[40, 8], [0, 50], [25, 25]]
    labelled.names[1] = "test/c/w.png"
    with pytest.raises(UserError, match="no labels for 1 images, such as test/c/w.png"):
        humans.load(tmp_path / "h.csv", labelled)
    labelled = replace(labelled, classes=["a", "c"])
    with pytest.raises(UserError, match="no column 'c'"):
        humans.load(tmp_path / "h.csv", labelled)


def test_labels_in_the_authors_form(labelled, tmp_path):
    np.save(tmp_path / "counts.npy", np.array([[40, 8], [0, 50], [25, 25]]))
    with pytest.raises(UserError, match="need CIFAR-10's own files"):
        humans.load(tmp_path / "counts.npy", labelled)
    labelled = replace(labelled, names=[f"cifar10-test-{i:05d}" for i in (2, 0, 1)])
    assert humans.load(tmp_path / "counts.npy", labelled).tolist() == [[25, 25], [40, 8], [0, 50]]
    np.save(tmp_path / "counts.npy", np.array([[40, 8], [0, 0], [25, 25]]))
    with pytest.raises(UserError, match="1 images have labels that are not counts, such as cifar10-test-00001"):
        humans.load(tmp_path / "counts.npy", labelled)
    np.save(tmp_path / "counts.npy", np.zeros((4, 2)))
    with pytest.raises(UserError, match="labels of shape"):
        humans.load(tmp_path / "counts.npy", labelled)


@pytest.mark.parametrize("row", ["0,0", "nan,3", "inf,3", "-1,51", "x,3", "3"])
def test_labels_that_are_no_counts_are_named(labelled, tmp_path, row):
    rows = ["0,test/a/x.png,40,8", f"1,test/b/y.png,{row}", "2,test/b/z.png,25,25"]
    (tmp_path / "h.csv").write_text("\n".join(["test_index,image,a,b", *rows]))
    with pytest.raises(
        UserError,
        match="h.csv: (1 images have labels that are not counts, such as test/b/y.png|cannot be read as people)",
    ):
        humans.load(tmp_path / "h.csv", labelled)


def test_labels_of_one_image_twice_and_damaged_files(labelled, tmp_path):
    (tmp_path / "h.csv").write_text("test_index,image,a,b\n0,test/a/x.png,1,2\n1,test/a/x.png,2,1\n")
    with pytest.raises(UserError, match="two rows of image test/a/x.png"):
        humans.load(tmp_path / "h.csv", labelled)
    (tmp_path / "h.csv").write_text(
        "test_index,image,a,b\n0,test/a/x.png,1,2\n1,test/b/y.png,2,1\n01,test/b/z.png,2,1\n"
    )
    with pytest.raises(UserError, match="two rows of image cifar10-test-00001"):
        humans.load(tmp_path / "h.csv", labelled)
    for name, content in (("h.csv", b"\xff\x00,"), ("h.npy", b"\x93NUMPY"), ("g.npy", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            humans.load(tmp_path / name, labelled)
