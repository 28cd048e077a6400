"""Ambiguous digits (ours: those of Mukhoti et al. 2021 are not at hand), and the LeNet that is trained on them.

A small VAE of MNIST decodes points between two digits of different classes, and an image is kept if networks trained
on MNIST are split between two classes. Labels are drawn from their class probabilities. The images are written to
runs/dirty_mnist.npz by the experiment that needs them first.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy import ndarray
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import data
from configs.schema import Data, DataSet
from data.dataset import Dataset
from training import artifact
from training.bar import progress_bar

IMAGES = Path("runs/dirty_mnist.npz")
AMBIGUOUS, LABELS = 20_000, 3  # images of training (a sixth as many are for tests), and labels of each
VAE_EPOCHS, JUDGES, JUDGE_EPOCHS = 15, 3, 3  # the judges are the networks that must be split


def lenet(rate: float) -> nn.Module:
    """LeNet with dropout behind every layer but the last."""
    convolutions = [(nn.Conv2d(i, o, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(rate)) for i, o in ((1, 20), (20, 50))]
    dense = (nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Dropout(rate), nn.Linear(500, 10))
    return nn.Sequential(*convolutions[0], *convolutions[1], *dense)


class VAE(nn.Module):
    """A variational autoencoder of flat images in [0, 1] (Kingma & Welling 2014)."""

    def __init__(self, latent: int = 10):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, 400), nn.ReLU(), nn.Linear(400, 784))

    def loss(self, x: Tensor) -> Tensor:
        """The negative evidence lower bound, in nats an image (eq. 10)."""
        mean, log_variance = self.encoder(x).chunk(2, 1)
        logits = self.decoder(mean + torch.randn_like(mean) * (log_variance / 2).exp())
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return (reconstruction + 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum()) / len(x)


def train(model: nn.Module, loss, tensors: list[Tensor], epochs: int) -> None:
    """Train by Adam in batches of 128."""
    optimizer = torch.optim.Adam(model.train().parameters())
    for _ in progress_bar(range(epochs), desc=type(model).__name__, unit="epoch", leave=False):
        for rows in torch.randperm(len(tensors[0])).split(128):
            optimizer.zero_grad()
            loss(*(tensor[rows] for tensor in tensors)).backward()
            optimizer.step()
    model.eval()


def train_classifier(network: nn.Module, x: Tensor, labels: Tensor, epochs: int) -> None:
    """Train by cross-entropy on images in [0, 1], [N, 1, 28, 28]."""
    train(network, lambda x, y: F.cross_entropy(network(x), y), [x, labels], epochs)


@torch.no_grad()
def between_digits(vae: VAE, judges: list[nn.Module], dataset: Dataset, count: int) -> tuple[Tensor, Tensor]:
    """`count` images between two digits [N, 28, 28, 1], and the judges' mean probabilities [N, 10]: the second class
    has 0.2 or more, and both together 0.8 or more."""
    codes = vae.encoder(dataset.images.flatten(1).float() / 255).chunk(2, 1)[0]
    images, probs = [], []
    while sum(map(len, images)) < count:
        first, second = torch.randint(len(codes), (2, 2000))
        share = torch.empty(2000, 1).uniform_(0.3, 0.7)
        different = dataset.labels[first] != dataset.labels[second]
        pixels = vae.decoder(share * codes[first] + (1 - share) * codes[second]).sigmoid()[different]
        mean = torch.stack([judge(pixels.unflatten(1, (1, 28, 28))).softmax(1) for judge in judges]).mean(0)
        top = mean.topk(2, 1).values
        kept = (top[:, 1] >= 0.2) & (top.sum(1) >= 0.8)
        images.append((255 * pixels[kept]).round().to(torch.uint8).view(-1, 28, 28, 1))
        probs.append(mean[kept])
    return torch.cat(images)[:count], torch.cat(probs)[:count]


def load_digits() -> tuple[Dataset, Dataset, dict[str, ndarray]]:
    """MNIST's training and test images, and all clean and ambiguous ones as arrays; the first call makes them."""
    splits = {split: data.load(DataSet("mnist"), split, Data(size=28, channels=1)) for split in ("train", "test")}
    if not IMAGES.exists():
        torch.manual_seed(0)
        x, y = splits["train"].images.flatten(1).float() / 255, splits["train"].labels
        vae, judges = VAE(), [lenet(0.3) for _ in range(JUDGES)]
        train(vae, vae.loss, [x], VAE_EPOCHS)
        for judge in judges:
            train_classifier(judge, x.view(-1, 1, 28, 28), y, JUDGE_EPOCHS)
        arrays = {}
        for (split, dataset), count, labels in zip(splits.items(), (AMBIGUOUS, AMBIGUOUS // 6), (LABELS, 1)):
            images, probs = between_digits(vae, judges, dataset, count)
            arrays |= {f"{split}_clean": dataset.images, f"{split}_clean_labels": dataset.labels}
            arrays |= {f"{split}_ambiguous": images, f"{split}_ambiguous_labels": probs.multinomial(labels, True)}
        with artifact.replacing(IMAGES) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)
    return splits["train"], splits["test"], dict(np.load(IMAGES))


def dirty(split: str) -> TensorDataset:
    """Clean and ambiguous digits together: a data set for `data.train`. An ambiguous image is there once for each of
    its labels."""
    arrays = {name: torch.from_numpy(array) for name, array in np.load(IMAGES).items()}
    clean, ambiguous, labels = (arrays[f"{split}_{name}"] for name in ("clean", "ambiguous", "ambiguous_labels"))
    images = torch.cat([clean, ambiguous.repeat_interleave(labels.shape[1], 0)])
    return TensorDataset(images, torch.cat([arrays[f"{split}_clean_labels"], labels.flatten()]))
