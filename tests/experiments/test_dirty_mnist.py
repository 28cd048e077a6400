"""Ambiguous digits, on a few of scikit-learn's in MNIST's size."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import compare
import data
from configs.errors import UserError
from configs.schema import Data, DataSet
from data.dataset import Dataset
from experiments import dirty_mnist

ROOT = Path(__file__).parents[2]


def digits(source: DataSet, split: str, settings: Data) -> Dataset:
    """Digits in MNIST's size: 300 for training and 60 for tests; as Fashion-MNIST, their negatives."""
    chosen = slice(300) if split == "train" else slice(300, 360)
    images, labels = load_digits().images[chosen], torch.from_numpy(load_digits().target[chosen])
    large = [np.asarray(Image.fromarray((image * 15.9).astype(np.uint8)).resize((28, 28))) for image in images]
    pixels = torch.from_numpy(np.stack(large)[..., None])
    shown = 255 - pixels if source.source == "fashion_mnist" else pixels
    return Dataset(source.title, shown, labels, [""] * len(labels), list("0123456789"))


def test_scores_are_measured_on_clean_ambiguous_and_unknown_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module, name in (
        (compare.report, "main"),
        (compare, "cost"),
        (compare, "resampled"),
    ):  # these take most of the time
        monkeypatch.setattr(module, name, lambda *_: {})
    monkeypatch.setattr(dirty_mnist, "PUBLISHED", {"mnist": ""})
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/dirty_mnist.py").symlink_to(ROOT / "experiments/dirty_mnist.py")
    for name in ("mnist", "fashion_mnist"):
        monkeypatch.setitem(data.SOURCES, name, digits)
    with pytest.raises(UserError, match="notMNIST's idx files"):
        dirty_mnist.main(dirty_mnist.Settings())
    dirty_mnist.LETTERS.parent.mkdir(parents=True)
    letters = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    dirty_mnist.LETTERS.write_bytes(struct.pack(">4i", 2051, *letters.shape) + letters.tobytes())
    small = {
        "ambiguous": 30,
        "vae_epochs": 60,
        "judges": 1,
        "judge_epochs": 10,
        "epochs": 2,
        "student_epochs": 1,
        "ddu_epochs": 0,
    }
    dirty_mnist.main(dirty_mnist.Settings(**small, members=2))
    arrays = np.load(dirty_mnist.IMAGES)
    assert arrays["train_ambiguous"].shape == (30, 28, 28, 1) and arrays["train_ambiguous_labels"].shape == (30, 3)
    images, labels = dirty_mnist.dirty("train").tensors
    assert (
        len(images) == 300 + 90
        and torch.equal(images[300], images[302])
        and labels[302] == arrays["train_ambiguous_labels"][0, 2]
    )
    record = json.loads(Path("results/dirty_mnist/dirty_mnist.json").read_text())
    scores = {"MC-dropout": "mutual_information", "softmax": "energy"}  # each method's own
    methods, published = record["methods"], record["published"]
    assert methods.keys() == {"MC-dropout", "Dirichlet student", "Gaussian student", "ensemble", "softmax"}
    for title, found in methods.items():
        assert 0 < found["accuracy"] <= 1 and found["unknown"].keys() == found["ambiguous"].keys()
        assert ("mutual_information" in found["unknown"]) == (title != "softmax")
    assert published.keys() == {"mnist"} and published["mnist"].keys() == {"MC-dropout", "softmax"}
    for title, found in published["mnist"].items():
        assert list(found) == ["accuracy", "nll", "AUROC fashion_mnist", "AUROC notmnist"]
        row = json.loads(Path(f"results/dirty_mnist/mnist/{title.lower()}-0.json").read_text())
        assert (
            row["settings"]["data"]["train"]["name"] == "mnist"
            and found["nll"] == row["before"]["nll"]
            and found["AUROC notmnist"] == row["ood"]["notmnist"][scores[title]]["auroc"]
        )
    with pytest.raises(UserError, match="has ambiguous digits of other settings"):
        dirty_mnist.digits_of(dirty_mnist.Settings(**small | {"ambiguous": 31}))
    assert all(Path(f"results/dirty_mnist/{name}").exists() for name in ("densities.png", "images.png", "README.md"))


def test_judges_agree_that_an_image_is_between_two_classes(monkeypatch):
    torch.manual_seed(0)
    vae = dirty_mnist.VAE()
    first = torch.tensor([0.5, 0.45, *8 * [0.00625]]).log()

    class Judge(torch.nn.Module):
        """Half of the images are between 0 and 1, the others are sure."""

        def forward(self, x):
            bright = x.mean((1, 2, 3)) > x.mean((1, 2, 3)).median()
            return torch.where(bright.unsqueeze(1), first, 50 * torch.eye(10)[0])

    random = torch.randint(0, 256, (100, 28, 28, 1), dtype=torch.uint8)
    dataset = Dataset("random", random, torch.arange(100) % 10, [""] * 100, list("0123456789"))
    images, shares = dirty_mnist.ambiguous(vae, [Judge()], dataset, 500)
    assert images.shape == (500, 28, 28, 1) and images.dtype == torch.uint8
    torch.testing.assert_close(shares, first.exp().expand(500, -1))
