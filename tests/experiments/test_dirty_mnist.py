"""Ambiguous digits, on a few of scikit-learn's in MNIST's size."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from sklearn.datasets import load_digits

import data
from configs.errors import UserError
from configs.schema import Data, DataSet
from data.dataset import Dataset
from experiments import ambiguous_digits, digit_methods, dirty_mnist

FEW = ["MC-dropout", "Dirichlet student", "softmax"]  # the others take long, and have tests of their own


def digits(source: DataSet, split: str, settings: Data) -> Dataset:
    """Digits in MNIST's size: 300 for training and 60 for tests; as Fashion-MNIST, their negatives."""
    chosen, given = slice(300) if split == "train" else slice(300, 360), load_digits()
    images = torch.from_numpy(given.images[chosen] * 15.9).unsqueeze(1)
    pixels = F.interpolate(images, (28, 28)).to(torch.uint8).permute(0, 2, 3, 1)
    shown = 255 - pixels if source.source == "fashion_mnist" else pixels
    labels = torch.from_numpy(given.target[chosen])
    return Dataset(source.title, shown, labels, [""] * len(labels), list("0123456789"))


def test_scores_are_measured_on_clean_ambiguous_and_unknown_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    for name in ("mnist", "fashion_mnist"):
        monkeypatch.setitem(data.SOURCES, name, digits)
    with pytest.raises(UserError, match="notMNIST"):
        dirty_mnist.main(dirty_mnist.Settings())
    dirty_mnist.LETTERS.parent.mkdir(parents=True)
    letters = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    dirty_mnist.LETTERS.write_bytes(struct.pack(">4i", 2051, *letters.shape) + letters.tobytes())
    for name, value in {"AMBIGUOUS": 30, "VAE_EPOCHS": 30, "JUDGES": 1, "JUDGE_EPOCHS": 10}.items():
        monkeypatch.setattr(ambiguous_digits, name, value)
    monkeypatch.setattr(dirty_mnist, "PUBLISHED", {"mnist": ""})
    monkeypatch.setattr(digit_methods, "PASSES", 6)
    train = digit_methods.train_methods
    monkeypatch.setattr(dirty_mnist, "train_methods", lambda base, settings, only=FEW: train(base, settings, only))
    dirty_mnist.main(dirty_mnist.Settings(epochs=1, student_epochs=1))
    arrays = np.load(ambiguous_digits.IMAGES)
    assert arrays["train_ambiguous"].shape == (30, 28, 28, 1) and arrays["train_ambiguous_labels"].shape == (30, 3)
    images, labels = ambiguous_digits.dirty("train").tensors
    assert len(images) == 300 + 90 and torch.equal(images[300], images[302])
    assert labels[302] == arrays["train_ambiguous_labels"][0, 2]
    record = json.loads(Path("results/dirty_mnist/dirty_mnist.json").read_text())
    assert list(record["methods"]) == FEW
    for title, entry in record["methods"].items():
        assert dirty_mnist.OWN_SCORES[title] in entry["unknown"].keys() & entry["ambiguous"]
    assert record["published"]["mnist"].keys() == {"MC-dropout", "softmax"}
