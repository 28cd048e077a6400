"""Every source on small files in its own format, what goes wrong with folders, and augmentation against slow code."""

import gzip
import hashlib
import math
import pickle
import shutil
import struct
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.ndimage
import torch
from PIL import Image
from torchvision import datasets

import data
from configs.errors import UserError
from configs.schema import Augmentation, Data, DataSet
from data import augment, published
from data.dataset import Dataset
from data.folder import decode
from data.views import VIEWS, make_views

RNG = np.random.default_rng(0)
CPU = torch.device("cpu")


def random_images(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def loaded(source: DataSet, split="test", size=32, channels=3, **settings) -> Dataset:
    """A data set; what is decoded is kept beside its files."""
    decoded = str(Path(source.root) / "decoded")
    return data.load(source, split, Data(train=source, size=size, channels=channels, decoded=decoded, **settings))


def save(pixels: np.ndarray, file: Path, **options) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)


# Files in the published formats.


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """CIFAR-10 with 2 training and 2 test images, as its authors packed them."""
    pixels, labels, folder = random_images(4, 3, 32, 32), [3, 1, 5, 9], tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name, part in (("data_batch_1", slice(2)), ("test_batch", slice(2, 4))):
        (folder / name).write_bytes(pickle.dumps({"data": pixels[part].reshape(2, -1), "labels": labels[part]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["data_batch_1", None]])  # None: there is no digest to check
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", None]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", datasets.CIFAR10.meta | {"md5": None})
    return pixels.transpose(0, 2, 3, 1), labels


def require(found: Dataset, pixels: np.ndarray, labels: list[int]) -> None:
    """The images are in the order of their digests."""
    order = sorted(range(len(pixels)), key=lambda i: hashlib.sha256(pixels[i].tobytes()).hexdigest())
    assert np.array_equal(found.images, pixels[order]) and found.labels.tolist() == [labels[i] for i in order]


def test_cifar(cifar, tmp_path):
    for split, part in (("train", slice(2)), ("test", slice(2, 4))):
        found = loaded(DataSet("cifar10", str(tmp_path), partial=True), split)
        require(found, cifar[0][part], cifar[1][part])
        assert sorted(found.names) == [f"cifar10-{split}-0000{i}" for i in (0, 1)]
    with pytest.raises(UserError, match="cifar10: 2 of 10000 test images are below .*set `partial: true`"):
        loaded(DataSet("cifar10", str(tmp_path)))


def test_class_folders_are_the_same_data_set_as_the_published_files(cifar, tmp_path):
    for place, name in enumerate("abcdefghij"):
        given = cifar[1].index(place) if place in cifar[1][2:] else 0
        save(cifar[0][given], tmp_path / f"folders/cifar10/test/{name}/{given}.png")
    found = loaded(DataSet("cifar10", str(tmp_path / "folders"), partial=True))
    assert found.name == "cifar10-10-of-10000" and found.classes == list("abcdefghij")
    same = found.subset(torch.tensor([i for i, name in enumerate(found.names) if not name.endswith("0.png")]))
    assert same.fingerprint == loaded(DataSet("cifar10", str(tmp_path), partial=True)).fingerprint


def test_a_published_set_with_a_changed_pixel_is_refused(cifar, tmp_path, monkeypatch):
    source = DataSet("cifar10", str(tmp_path))
    fingerprints = {"test": loaded(replace(source, partial=True)).fingerprint}
    known = replace(published.SETS["cifar10"], counts={"test": 2}, fingerprints=fingerprints)
    monkeypatch.setitem(published.SETS, "cifar10", known)
    assert len(loaded(source)) == 2
    file = tmp_path / "cifar-10-batches-py/test_batch"
    content = bytearray(file.read_bytes())
    content[content.index(cifar[0][2].transpose(2, 0, 1).tobytes())] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="the test images below .* are not the published ones; `partial: true`"):
        loaded(source)


def test_svhn(tmp_path, monkeypatch):
    pixels = random_images(32, 32, 3, 4)
    scipy.io.savemat(tmp_path / "test_32x32.mat", {"X": pixels, "y": np.array([[1], [10], [3], [2]])})
    monkeypatch.setattr(datasets.SVHN, "split_list", {"test": ["", "test_32x32.mat", None]})
    found = loaded(DataSet("svhn", str(tmp_path), partial=True))
    require(found, np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), [1, 0, 3, 2])  # the authors' 10 is the digit 0


@pytest.mark.parametrize("source, folder", [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_mnist_and_its_kin_become_what_the_network_wants(tmp_path, source, folder):
    pixels, labels, raw = random_images(3, 28, 28), [7, 0, 2], tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, 3, 28, 28) + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 3) + bytes(labels))
        (raw / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(b""))
    source = DataSet(source, str(tmp_path), partial=True)
    require(loaded(source, size=28, channels=1), pixels[..., None], labels)
    colour = loaded(source).images
    assert colour.shape == (3, 32, 32, 3) and (colour[..., 0] == colour[..., 2]).all()


DIGITS = Data(size=8, channels=1)


@pytest.mark.parametrize("validation, count", [(150, 150), (0.1, 130), (0.0001, 1)])
def test_validation_is_a_number_or_a_share_split_off_by_seed(validation, count):
    settings = replace(DIGITS, validation=validation)
    (train, held_out), (other, _) = (data.load_train(settings, seed) for seed in (0, 1))
    assert len(held_out) == count and len(train) == 1297 - count
    assert not set(train.names) & set(held_out.names)
    assert train.names != other.names and train.names == data.load_train(settings, 0)[0].names
    with pytest.raises(UserError, match="leaves none to train on"):
        data.load_train(replace(DIGITS, validation=1297), 0)


def test_evaluation_sets_are_limited_at_random_and_need_different_names():
    settings = replace(DIGITS, ood=[DataSet("letters"), DataSet("noise")], max_ood=50)
    digits = [str(c) for c in range(10)]
    sets = data.load_evaluation(settings, digits, 0)
    assert [(s.name, len(s)) for s in sets] == [("digits", 500), ("letters", 50), ("noise", 50)]
    assert sets[1].names == data.load_evaluation(settings, digits, 0)[1].names != sorted(sets[1].names)
    with pytest.raises(UserError, match="class '9' is not both in the test set and"):
        data.load_evaluation(settings, digits[:9], 0)
    with pytest.raises(UserError, match="the classes are not in the same order"):
        data.load_evaluation(settings, digits[::-1], 0)
    settings.ood.append(DataSet("noise"))
    with pytest.raises(UserError, match="the same name"):
        data.load_evaluation(settings, digits, 0)


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_without_labels_are_neither_trained_on_nor_tested_on(split, monkeypatch):
    known = data.SOURCES["digits"]
    unlabelled = lambda *of: replace(known(*of), labels=-known(*of).labels)  # noqa: E731
    monkeypatch.setitem(data.SOURCES, "digits", unlabelled)
    load = {"train": data.load_train, "test": partial(data.load_evaluation, classes=[str(c) for c in range(10)])}
    with pytest.raises(UserError, match=f"digits: [0-9]+ {split}.* images have no label"):
        load[split](DIGITS, seed=0)


def test_fingerprint_changes_with_a_pixel_and_with_a_label():
    images, labels = torch.from_numpy(random_images(9, 4, 4, 1)), torch.arange(9)
    changed = images.clone()
    changed[7, 3, 3, 0] ^= 1
    sets = [(images, labels), (images.clone(), labels), (changed, labels), (images, labels.flip(0))]
    first, again, *others = (in_memory(*given).fingerprint for given in sets)
    assert first == again and len({first, *others}) == 3


# Folders.


@pytest.fixture
def photos(tmp_path) -> DataSet:
    """Two classes, train and test, 12x10 PNG and WebP."""
    for place in ("train/{}/0.webp", "train/{}/1.png", "train/{}/2.png", "test/{}/0.webp", "test/{}/1.png"):
        for name in ("cat", "dog"):
            save(random_images(10, 12, 3), tmp_path / "photos" / place.format(name), lossless=True)
    return DataSet("folder", str(tmp_path / "photos"))


def test_a_folder_is_decoded_once_resized_and_labelled_by_its_folders(photos, monkeypatch):
    train = loaded(photos, "train", size=10)
    assert (train.name, train.classes, train.labels.tolist()) == ("photos", ["cat", "dog"], [0, 0, 0, 1, 1, 1])
    assert train.images.shape == (6, 10, 10, 3) and train.names[4] == "train/dog/1.png"
    expected = Image.open(Path(photos.root) / train.names[4]).resize((10, 10), Image.Resampling.BILINEAR)
    assert np.array_equal(train.images[4], np.asarray(expected))
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("decoded again"))
    assert torch.equal(loaded(photos, "train", size=10).images, train.images)


def test_any_tree_of_images_is_an_unlabelled_test_set(photos):
    (Path(photos.root) / "test").rename(Path(photos.root) / "other")
    save(random_images(10, 12, 3), Path(photos.root) / "test/in_no_class.png")
    assert loaded(photos).labels.tolist() == 11 * [-1]


def test_what_is_wrong_with_a_folder_is_named(photos):
    root = Path(photos.root)

    def named(folder: Path, said: str, split: str = "train") -> None:
        with pytest.raises(UserError, match=said):
            loaded(DataSet("folder", str(folder)), split)

    for content in (b"no image", (root / "train/dog/1.png").read_bytes()[:-40]):
        (root / "train/cat/broken.png").write_bytes(content)
        named(root, "broken image .*train/cat/broken.png")
    (root / "train/cat/broken.png").unlink()
    shutil.copytree(root / "train/cat", root / "alone/train/cat")
    named(root / "alone", "two classes or more are needed in .*alone/train; there is cat")
    shutil.copytree(root / "train/cat", root / "test/fox")
    named(root, "class 'fox' is in test and not in train")
    named(root / "test", "training images belong in .*test/train/<class>/")
    named(root / "nowhere", "no folder .*nowhere")
    with pytest.raises(UserError, match="no folder .*alone/test/<class>/ with images"):
        data.load_evaluation(Data(DataSet("folder", str(root / "alone")), size=8, decoded=None), ["cat"], 0)


def test_what_programs_put_into_folders_is_no_class_and_no_image_and_an_empty_class_is_left_out(photos, capsys):
    root, before = Path(photos.root), loaded(photos, "train")
    shutil.copytree(root / "train/dog", root / "train/.ipynb_checkpoints")
    shutil.copy(root / "train/dog/1.png", root / "train/dog/._1.png")
    (root / "train/dog/Thumbs.db").write_bytes(b"?")
    (root / "train/eel").mkdir()
    after = loaded(photos, "train")
    assert (after.classes, after.names) == (before.classes, before.names)
    assert "1 folders of train have no images and are left out: eel" in capsys.readouterr().out
    (root / "test").rename(root / "valid")
    assert len(loaded(photos, "test")) > 0 and "valid is taken in its place" in capsys.readouterr().out


def test_of_several_frames_the_first_is_taken(tmp_path):
    frames = [Image.fromarray(np.full((6, 6, 3), value, np.uint8)) for value in (200, 20)]
    for kind in ("gif", "tiff", "mpo"):
        path = tmp_path / f"two.{kind if kind != 'mpo' else 'jpg'}"
        frames[0].save(path, kind.upper(), save_all=True, append_images=frames[1:])
        assert abs(int(decode(path, (6, 6, 3)).mean()) - 200) < 3


def test_test_images_that_are_training_images_are_counted():
    images = torch.from_numpy(random_images(9, 4, 4, 3))
    train, test = in_memory(images[:6]), in_memory(images[[0, 7, 5, 8]])
    assert data.shared(train, test) == 2


# Augmentation and views.


def in_memory(images, labels=None):
    labels = torch.zeros(len(images), dtype=torch.long) if labels is None else labels
    return Dataset("random", images, labels, [""] * len(images), ["black", "white"])


def test_augmentation_against_numpy_image_by_image():
    images = torch.from_numpy(random_images(40, 9, 7, 3))
    draws = augment.draw_changes(40, Augmentation(flip=True, crop=3), torch.Generator().manual_seed(0))
    assert draws.flip.float().mean().item() == pytest.approx(0.5, abs=0.25) and draws.shift.abs().max() == 3
    for image, result, flip, (dy, dx) in zip(images, augment.augment(images, draws), draws.flip, draws.shift.tolist()):
        padded = np.pad(image.numpy(), ((3, 3), (3, 3), (0, 0)), mode="reflect")
        if flip:
            padded, dx = padded[:, ::-1], -dx
        assert np.array_equal(result, padded[3 + dy : 12 + dy, 3 + dx : 10 + dx])


def test_rotation_against_scipy():
    image = scipy.ndimage.gaussian_filter(RNG.random((21, 21)) * 255, 2).astype(np.uint8)
    turn = torch.tensor([math.radians(12.0)])
    draws = replace(augment.draw_changes(1, Augmentation(flip=False, crop=0)), angle=turn)
    rotated = augment.augment(torch.from_numpy(image)[None, ..., None], draws)[0, ..., 0].numpy()
    expected = scipy.ndimage.rotate(image.astype(float), 12.0, reshape=False, order=1, mode="nearest")
    assert np.abs(rotated - expected)[3:-3, 3:-3].max() < 1.0


def test_noise_is_on_half_of_the_images_with_a_uniform_deviation_and_the_same_for_each_in_any_batch():
    images, some = torch.full((4000, 8, 8, 3), 128, dtype=torch.uint8), torch.tensor([7, 3, 900])
    draws = augment.draw_changes(4000, Augmentation(noise=0.08), torch.Generator().manual_seed(0))
    changed, noisy = augment.augment(images, draws), draws.sigma > 0
    deviation = changed.flatten(1).std(1) / 255
    assert noisy.double().mean().item() == pytest.approx(0.5, abs=0.04) and draws.sigma.max() < 0.08
    assert deviation.mean().item() == pytest.approx(0.02, abs=0.002)
    torch.testing.assert_close(deviation, draws.sigma, rtol=0.25, atol=1e-3)
    assert torch.equal(augment.augment(images[some], draws[some]), changed[some])
    assert abs(np.corrcoef(*changed[noisy][:2].flatten(1))[0, 1]) < 0.3


@pytest.mark.parametrize("kind", [kind for kind in VIEWS if kind != "other"])
def test_a_view_is_the_same_however_it_is_asked_for_and_its_labels_are_the_shares_of_its_pixels(kind):
    """The labels say whether an image's last channel is black or white: a mixture's mean is its share of white."""
    white, everything = torch.arange(30) % 2, torch.arange(30)
    pixels = torch.from_numpy(random_images(30, 16, 16, 3))
    pixels[..., 2] = 255 * white.view(-1, 1, 1)
    images = in_memory(pixels, white)
    first, second, other = (make_views([kind] * 2, images, Augmentation(), seed, CPU) for seed in (0, 0, 1))
    whole, labels = first[0].images(everything), first[0].labels(everything)
    assert torch.equal(whole, torch.cat([second[0].images(i) for i in everything.split(1)]))
    for another in (first[1], other[0]):
        assert torch.equal(whole, another.images(everything)) == (kind == "plain")
    torch.testing.assert_close(labels.sum(1), torch.ones(30))
    if kind == "strong":  # changes brightness, but mixes nothing
        assert torch.equal(labels.argmax(1), white)
    else:
        torch.testing.assert_close(whole[..., 2].float().mean((1, 2)) / 255, labels[:, 1], atol=1e-4, rtol=0)
    assert ((labels.amax(1) < 0.99).sum() > 5) == (kind in ("mixup", "cutmix"))
