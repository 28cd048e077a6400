"""Every source on small files in its own format, what goes wrong with folders, and augmentation against slow code."""

import gzip
import hashlib
import math
import pickle
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.ndimage
import torch
from PIL import Image
from torchvision import datasets

import data
from configs.schema import Augmentation, Data, DataSet
from data import augment, published
from data.dataset import Dataset
from data.resize import fit_to
from data.views import VIEWS, make_views
from training.errors import UserError

RNG = np.random.default_rng(0)


def config(source: DataSet, tmp_path, **settings) -> Data:
    return Data(train=source, validation=2, decoded=str(tmp_path / "decoded"), **settings)


# Files in the published formats.


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """CIFAR-10 and CIFAR-100 with 4 training and 2 test images, as their authors packed them."""
    pixels = RNG.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    labels = [3, 1, 4, 1, 5, 9]

    def write(path, chosen, key):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pickle.dumps({"data": pixels[chosen].reshape(len(pixels[chosen]), -1), key: labels[chosen]}))

    ten, hundred = tmp_path / "cifar-10-batches-py", tmp_path / "cifar-100-python"
    write(ten / "data_batch_1", slice(0, 2), "labels")
    write(ten / "data_batch_2", slice(2, 4), "labels")
    write(ten / "test_batch", slice(4, 6), "labels")
    (ten / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    write(hundred / "train", slice(0, 4), "fine_labels")
    write(hundred / "test", slice(4, 6), "fine_labels")
    (hundred / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"class {i}" for i in range(100)]}))
    lists = {datasets.CIFAR10: ["data_batch_1", "data_batch_2"], datasets.CIFAR100: ["train"]}
    for kind, names in lists.items():  # None: any content passes the integrity check
        monkeypatch.setattr(kind, "train_list", [[name, None] for name in names])
        monkeypatch.setattr(kind, "test_list", [["test_batch" if kind is datasets.CIFAR10 else "test", None]])
        monkeypatch.setattr(kind, "meta", kind.meta | {"md5": None})
    return pixels.transpose(0, 2, 3, 1), labels


def in_order_of_digests(pixels, labels):
    order = sorted(range(len(pixels)), key=lambda i: hashlib.sha256(pixels[i].tobytes()).hexdigest())
    return pixels[order], [labels[i] for i in order], order


def split_of(source: str, tmp_path, split="test", size=32, channels=3):
    settings = config(DataSet(source, str(tmp_path), partial=True), tmp_path, size=size, channels=channels)
    return data.load(settings.train, split, settings)


@pytest.mark.parametrize("source", ["cifar10", "cifar100"])
def test_cifar(cifar, tmp_path, source):
    for split, part in (("train", slice(0, 4)), ("test", slice(4, 6))):
        found = split_of(source, tmp_path, split)
        pixels, labels, order = in_order_of_digests(cifar[0][part], cifar[1][part])
        assert np.array_equal(found.images, pixels) and found.labels.tolist() == labels
        assert found.names == [f"{source}-{split}-{i:05d}" for i in order]
        assert len(found.classes) == (10 if source == "cifar10" else 100)


def test_class_folders_are_the_same_data_set_as_the_published_files(cifar, tmp_path):
    pixels, labels = cifar
    for i in (4, 5):
        path = tmp_path / f"folders/cifar10/test/{'abcdefghij'[labels[i]]}/{9 - i}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels[i]).save(path)
    for name in set("abcdefghij") - {"abcdefghij"[label] for label in labels[4:]}:
        (tmp_path / f"folders/cifar10/test/{name}").mkdir()
        Image.fromarray(pixels[0]).save(tmp_path / f"folders/cifar10/test/{name}/0.png")
    found = split_of("cifar10", tmp_path / "folders")
    assert found.name == "cifar10-10-of-10000" and found.classes == list("abcdefghij")
    chosen = [i for i, name in enumerate(found.names) if name.endswith(("5.png", "4.png"))]
    published = split_of("cifar10", tmp_path)
    assert (
        torch.equal(found.images[chosen], published.images)
        and found.labels[chosen].tolist() == published.labels.tolist()
    )
    assert found.subset(torch.tensor(chosen)).fingerprint == published.fingerprint


def test_a_part_of_a_published_set_has_to_be_asked_for(cifar, tmp_path):
    settings = config(DataSet("cifar10", str(tmp_path)), tmp_path)
    with pytest.raises(
        UserError, match="cifar10: 2 of 10000 test images are below .*; add the others, or set `partial: true`"
    ):
        data.load(settings.train, "test", settings)


def test_a_published_set_with_a_changed_pixel_is_refused(cifar, tmp_path, monkeypatch):
    """Of the sets whose fingerprint is known; MNIST's files have no digest of their own."""
    known = published.SETS["cifar10"]
    monkeypatch.setitem(
        published.SETS,
        "cifar10",
        replace(known, counts={"test": 2}, fingerprints={"test": split_of("cifar10", tmp_path).fingerprint}),
    )
    settings = config(DataSet("cifar10", str(tmp_path)), tmp_path)
    assert len(data.load(settings.train, "test", settings)) == 2
    content = bytearray((tmp_path / "cifar-10-batches-py/test_batch").read_bytes())
    content[content.index(cifar[0][4].transpose(2, 0, 1).tobytes())] ^= 1
    (tmp_path / "cifar-10-batches-py/test_batch").write_bytes(content)
    with pytest.raises(
        UserError, match="the test images below .* are not the published ones; `partial: true` takes them"
    ):
        data.load(settings.train, "test", settings)


def test_svhn(tmp_path, monkeypatch):
    pixels = RNG.integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    scipy.io.savemat(tmp_path / "test_32x32.mat", {"X": pixels, "y": np.array([[1], [10], [3], [2]])})
    monkeypatch.setattr(datasets.SVHN, "split_list", {"test": ["", "test_32x32.mat", None]})
    test = split_of("svhn", tmp_path)
    expected, labels, _ = in_order_of_digests(
        np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), [1, 0, 3, 2]
    )  # the authors' 10 is the digit 0
    assert np.array_equal(test.images, expected) and test.labels.tolist() == labels


def raw_files(raw: Path) -> tuple[np.ndarray, np.ndarray]:
    """Three training and three test images, the same ones, as MNIST's authors packed theirs."""
    pixels, labels = RNG.integers(0, 256, (3, 28, 28), dtype=np.uint8), np.array([7, 0, 2], dtype=np.uint8)
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, 3, 28, 28) + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 3) + labels.tobytes())
        (raw / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(b""))
    return pixels, labels


@pytest.mark.parametrize(
    "source, folder", [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_mnist_and_its_kin_become_what_the_network_wants(tmp_path, source, folder):
    pixels, labels = raw_files(tmp_path / folder / "raw")
    test = split_of(source, tmp_path, size=28, channels=1)
    expected, expected_labels, _ = in_order_of_digests(pixels, labels.tolist())
    assert np.array_equal(test.images[..., 0], expected) and test.labels.tolist() == expected_labels
    colour = split_of(source, tmp_path)
    assert colour.images.shape == (3, 32, 32, 3) and (colour.images[..., 0] == colour.images[..., 2]).all()


def test_tiny_imagenet_from_its_archive_and_from_folders_without_what_cifar10_shows(tmp_path, monkeypatch):
    """Two classes, one of which shows a goose, zipped as their authors did; the archive lies where the download would
    put it."""
    left_out, kept = "n01855672", "n01443537"
    pixels = [RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(3)]
    root = tmp_path / "made/tiny-imagenet-200"
    (root / "val/images").mkdir(parents=True)
    (root / "wnids.txt").write_text(f"{left_out}\n{kept}\n")
    rows = []
    for i, (image, wnid) in enumerate(zip(pixels, (kept, left_out, kept))):
        Image.fromarray(image).save(root / f"val/images/val_{i}.JPEG")
        rows.append(f"val_{i}.JPEG\t{wnid}\t0\t0\t1\t1")
        folder = tmp_path / f"folders/tiny_imagenet/test/{wnid}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / f"val/images/val_{i}.JPEG", folder)
    (root / "val/val_annotations.txt").write_text("\n".join(rows))
    archive = shutil.make_archive(str(tmp_path / "new/tiny-imagenet-200"), "zip", tmp_path / "made")
    digest = hashlib.md5(Path(archive).read_bytes()).hexdigest()
    monkeypatch.setattr(published, "TINY_IMAGENET", (published.TINY_IMAGENET[0], digest))
    downloaded, folders = (
        split_of("tiny_imagenet", tmp_path / "new", size=64),
        split_of("tiny_imagenet", tmp_path / "folders", size=64),
    )
    assert len(downloaded) == 2 and downloaded.classes == folders.classes == [kept]
    assert downloaded.fingerprint == folders.fingerprint


def test_a_failed_download_says_what_to_put_where(tmp_path, monkeypatch):
    def fail(*_, download, **__):
        raise OSError("no route to host") if download else RuntimeError("not found")

    monkeypatch.setitem(published.SETS, "svhn", replace(published.SETS["svhn"], reader=fail))
    settings = config(DataSet("svhn", str(tmp_path)), tmp_path)
    with pytest.raises(
        UserError, match="failed .no route to host.. .* files at .*/test_32x32.mat, or images at .*/svhn/test/<class>/"
    ):
        data.load(settings.train, "test", settings)


# Built in.


def test_digits_letters_and_noise_look_alike():
    settings = Data(size=8, channels=1)
    digits, letters, noise = (data.load(DataSet(s), "test", settings) for s in ("digits", "letters", "noise"))
    assert len(digits) == 500 and len(data.load(DataSet("digits"), "train", settings)) == 1297
    assert digits.images.unique().tolist() == sorted({round(level * 255 / 16) for level in range(17)})
    assert set(letters.images.unique().tolist()) <= set(digits.images.unique().tolist())
    assert letters.images.float().mean().item() == pytest.approx(digits.images.float().mean().item(), rel=0.35)
    assert not set(letters.classes) & set("OlI") and len(letters) > 500
    assert noise.images.float().mean().item() == pytest.approx(127.5, rel=0.01)
    assert torch.equal(noise.images, data.load(DataSet("noise"), "test", settings).images)


def test_validation_is_split_off_by_seed():
    settings = Data(size=8, channels=1, validation=100)
    (train, validation), (other, _) = (data.load_train(settings, seed) for seed in (0, 1))
    assert (len(train), len(validation)) == (1197, 100)
    assert not set(train.names) & set(validation.names)
    assert train.names != other.names and train.names == data.load_train(settings, 0)[0].names
    with pytest.raises(UserError, match="leaves none to train on"):
        data.load_train(Data(size=8, channels=1, validation=1297), 0)


# Folders.


@pytest.fixture
def tree(tmp_path):
    """Two classes, train and test, 12x10 PNG and WebP."""
    root = tmp_path / "photos"
    for split, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = RNG.integers(0, 256, (10, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.{'png' if i else 'webp'}", lossless=True)
    return root


def load(tree, tmp_path, split="train", size=10):
    settings = config(DataSet("folder", str(tree)), tmp_path, size=size)
    return data.load(settings.train, split, settings)


def test_a_folder_is_decoded_resized_and_labelled_by_its_folders(tree, tmp_path):
    train = load(tree, tmp_path)
    assert (train.name, train.classes, train.labels.tolist()) == ("photos", ["cat", "dog"], [0, 0, 0, 1, 1, 1])
    assert train.images.shape == (6, 10, 10, 3) and train.names[4] == "train/dog/1.png"
    expected = Image.open(tree / train.names[4]).resize((10, 10), Image.Resampling.BILINEAR)
    assert np.array_equal(train.images[4], np.asarray(expected))


def test_a_folder_is_decoded_once(tree, tmp_path, monkeypatch):
    first = load(tree, tmp_path)
    monkeypatch.setattr(data.folder, "decode", None)  # a second decoding would call it
    assert torch.equal(load(tree, tmp_path).images, first.images)
    with pytest.raises(TypeError):
        load(tree, tmp_path, size=8)


def test_any_tree_of_images_is_an_unlabelled_test_set(tree, tmp_path):
    (tree / "test").rename(tree / "other")
    found = load(tree, tmp_path, "test")
    assert len(found) == 10 and found.labels.unique().tolist() == [-1]


def test_what_is_wrong_with_a_folder_is_named(tree, tmp_path):
    (tree / "train" / "cat" / "broken.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="broken image .*train/cat/broken.png"):
        load(tree, tmp_path)
    (tree / "train" / "cat" / "broken.png").unlink()
    (tree / "train" / "eel").mkdir()
    with pytest.raises(UserError, match="photos: class 'eel' has no images"):
        load(tree, tmp_path)
    (tree / "train" / "eel").rmdir()
    with pytest.raises(UserError, match="photos: no folder .*nowhere/photos"):
        load(tmp_path / "nowhere" / "photos", tmp_path)
    with pytest.raises(UserError, match="training images belong in .*test/train/<class>/"):
        load(tree / "test", tmp_path)
    (tree / "test" / "fox").mkdir()
    Image.new("RGB", (4, 4)).save(tree / "test" / "fox" / "0.png")
    with pytest.raises(UserError, match="class 'fox' is in test and not in train"):
        load(tree, tmp_path)
    settings = config(DataSet("digits"), tmp_path)
    with pytest.raises(UserError, match="class '9' is not both in the test set and"):
        data.load_evaluation(settings, [str(c) for c in range(9)], 0)


def test_evaluation_sets_are_limited_at_random_and_need_different_names():
    settings = Data(size=8, channels=1, ood=[DataSet("letters"), DataSet("noise")], max_ood=50)
    digits = [str(c) for c in range(10)]
    sets = data.load_evaluation(settings, digits, 0)
    assert [(s.name, len(s)) for s in sets] == [("digits", 500), ("letters", 50), ("noise", 50)]
    assert sets[1].names == data.load_evaluation(settings, digits, 0)[1].names != sorted(sets[1].names)
    settings.ood.append(DataSet("noise"))
    with pytest.raises(UserError, match="the same name"):
        data.load_evaluation(settings, digits, 0)


def test_fingerprint_changes_with_a_pixel_and_with_a_label():
    digits = data.load(DataSet("digits"), "test", Data(size=8, channels=1))
    images, labels = digits.images.clone(), digits.labels.clone()
    images[7, 3, 3, 0] ^= 1
    labels[0] += 1
    found = [other.fingerprint for other in (digits, replace(digits, pixels=images), replace(digits, labels=labels))]
    assert len(set(found)) == 3 and replace(digits).fingerprint == found[0]


def test_grey_and_colour():
    rgb = torch.from_numpy(RNG.integers(0, 256, (2, 5, 5, 3), dtype=np.uint8))
    luma = np.stack([np.asarray(Image.fromarray(image.numpy()).convert("L")) for image in rgb])
    assert np.abs(fit_to(rgb, 5, 1)[..., 0].numpy().astype(int) - luma).max() <= 1
    assert torch.equal(fit_to(rgb[..., :1], 5, 3)[..., 2], rgb[..., 0])


# Augmentation and views.


def in_memory(images, labels=None):
    labels = torch.zeros(len(images), dtype=torch.long) if labels is None else labels
    return Dataset("random", images, labels, [""] * len(images), ["black", "white"])


def test_augmentation_against_numpy_image_by_image():
    images = torch.from_numpy(RNG.integers(0, 256, (40, 9, 7, 3), dtype=np.uint8))
    draws = augment.draw(40, Augmentation(flip=True, crop=3), torch.Generator().manual_seed(0))
    assert draws.flip.float().mean().item() == pytest.approx(0.5, abs=0.25) and draws.shift.abs().max() == 3
    for image, result, flip, (dy, dx) in zip(images, augment.augment(images, draws), draws.flip, draws.shift.tolist()):
        padded = np.pad(image.numpy(), ((3, 3), (3, 3), (0, 0)), mode="reflect")
        if flip:
            padded, dx = padded[:, ::-1], -dx
        expected = padded[3 + dy : 12 + dy, 3 + dx : 10 + dx]
        assert np.array_equal(result, expected)


def test_rotation_against_scipy():
    image = scipy.ndimage.gaussian_filter(RNG.random((21, 21)) * 255, 2).astype(np.uint8)
    draws = augment.Draws(torch.tensor([False]), torch.tensor([[0, 0]]), torch.tensor([math.radians(12.0)]))
    rotated = augment.augment(torch.from_numpy(image)[None, ..., None], draws)[0, ..., 0].numpy()
    expected = scipy.ndimage.rotate(image.astype(float), 12.0, reshape=False, order=1, mode="nearest")
    assert np.abs(rotated - expected)[3:-3, 3:-3].max() < 1.0


def test_mixup():
    first, second = torch.full((2, 1, 1, 1), 100, dtype=torch.uint8), torch.full((2, 1, 1, 1), 200, dtype=torch.uint8)
    assert augment.mix(first, second, torch.tensor([0.25, 1.0])).flatten().tolist() == [175.0, 100.0]


@pytest.mark.parametrize("kind", [kind for kind in VIEWS if kind != "other"])
def test_a_view_is_the_same_however_it_is_asked_for(kind):
    images = in_memory(torch.from_numpy(RNG.integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)))
    first, second, other = (
        make_views([kind] * 2, images, Augmentation(), seed, torch.device("cpu")) for seed in (0, 0, 1)
    )
    everything = first[0].images(torch.arange(20))
    parts = torch.stack([second[0].images(torch.tensor([i]))[0] for i in range(20)])
    assert torch.equal(everything, parts)
    if kind != "plain":
        assert not torch.equal(everything, first[1].images(torch.arange(20)))
        assert not torch.equal(everything, other[0].images(torch.arange(20)))


@pytest.mark.parametrize("kind", [kind for kind in VIEWS if kind != "other"])
def test_a_views_labels_are_the_shares_of_its_pixels(kind):
    """Of black and white images, the labels being black and white: a mixture's mean is its share of white."""
    white = torch.arange(30) % 2
    images = (255 * white).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 16, 16, 1).contiguous()
    (view,) = make_views([kind], in_memory(images, white), Augmentation(), 0, torch.device("cpu"))
    labels = view.labels(torch.arange(30))
    torch.testing.assert_close(labels.sum(1), torch.ones(30))
    if kind == "strong":  # changes brightness, but mixes nothing
        assert torch.equal(labels.argmax(1), white)
    else:
        torch.testing.assert_close(
            view.images(torch.arange(30)).float().mean((1, 2, 3)) / 255, labels[:, 1], atol=1e-4, rtol=0
        )
    assert ((labels.amax(1) < 0.99).sum() > 5) == (kind in ("mixup", "cutmix"))


def test_a_view_of_other_images_has_them_in_place_of_the_own_and_no_labels():
    own = in_memory(torch.zeros(20, 8, 8, 1, dtype=torch.uint8))
    other = in_memory(torch.arange(1, 8).view(7, 1, 1, 1).expand(7, 8, 8, 1).to(torch.uint8).contiguous())
    plain, view = make_views(["augmented", "other"], own, Augmentation(), 0, torch.device("cpu"), other)
    pixels = view.images(torch.arange(20)).float().mean((1, 2, 3))
    assert pixels.tolist() == [float(i % 7 + 1) for i in range(20)] and not plain.images(torch.arange(20)).any()
    assert (
        view.labels(torch.arange(20)).shape == plain.labels(torch.arange(20)).shape
        and not view.labels(torch.arange(20)).any()
    )
    assert view.dataset.fingerprint != plain.dataset.fingerprint and len(view.dataset) == 20
    assert (view.dataset.name, view.name) == (other.name, "other-0")


# Points of a plane.


@pytest.mark.parametrize("source, count, classes, lowest", [("two_moons", 1500, 2, 0.95), ("spiral", 300, 3, 0.95)])
def test_toys_are_classes_that_their_nearest_neighbours_tell(source, count, classes, lowest, tmp_path):
    settings = config(DataSet(source=source), tmp_path, size=1, channels=2, augmentation=Augmentation(crop=0))
    train, test = (data.load(settings.train, split, settings) for split in ("train", "test"))
    assert (
        train.images.shape == (count, 1, 1, 2) and train.images.dtype == torch.uint8 and len(train.classes) == classes
    )
    assert train.images.amin() > 0 and train.images.amax() < 255  # all of them within the plane
    assert not torch.equal(train.images[:300], test.images[:300])
    distance = torch.cdist(test.images.flatten(1).float(), train.images.flatten(1).float())
    assert (train.labels[distance.argmin(1)] == test.labels).float().mean() > lowest


def test_the_plane_is_a_grid_from_corner_to_corner(tmp_path):
    settings = config(DataSet(source="plane"), tmp_path, size=1, channels=2, augmentation=Augmentation(crop=0))
    plane = data.load(settings.train, "test", settings)
    points = plane.images.view(64, 64, 2)
    assert (
        points[0, 0].tolist() == [0, 0] and points[0, -1].tolist() == [255, 0] and points[-1, -1].tolist() == [255, 255]
    )
    with pytest.raises(UserError, match="images of 1 channels cannot be made into ones of 2"):
        data.load(DataSet(source="digits"), "test", settings)
