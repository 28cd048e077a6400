"""Regression in one dimension: aleatoric and epistemic bands of MC-dropout, and of a student that gives them in one
pass.

    python experiments/regression.py          # no data; a few minutes on one CPU core

Two teachers: one whose noise is a constant 1/τ, and one that learns its noise as a second output. Both are trained on
N/4, N/2 and N points, each with the dropout rate that is best for its number of points, by the likelihood of other
points: more data should lower the epistemic part, and not the aleatoric one. Writes results/regression/.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray
from torch import Tensor

from experiments import common, noisy_sine
from experiments.batched import Perceptrons, fit, moment_loss
from experiments.gaussian_regression import GaussianPrediction
from experiments.noisy_sine import GRID, PARTS, PLACES
from plots.style import BLUE, GREEN, GREY, ORANGE

RATES = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1]
STUDENT_POINTS = 2048
LENGTHSCALE = 0.1  # of the prior; with N it gives the weight decay
KINDS = ("constant", "learned")  # the noise of y: 1/τ, or a second output


@dataclass
class Settings:
    """points: N. repeats: networks of each kind and number of points, on other data each. passes: T of the teachers.
    epochs: at N points, and of the students; teachers of fewer points have more."""

    points: int = 1024
    repeats: int = 20
    passes: int = 200
    epochs: int = 500
    seed: int = 0


def train_teachers(kind: str, x: Tensor, y: Tensor, rates: Tensor, settings: Settings) -> Perceptrons:
    """Dropout networks 1-20-20-1; with two outputs, mean and log variance, if the noise is learned."""
    networks = Perceptrons([1, 20, 20, 1 if kind == "constant" else 2], rates)
    decay = LENGTHSCALE**2 * (1 - rates) / (2 * x.shape[1])  # Gal & Ghahramani 2016, eq. 18, times τ
    fit(networks, x, y, noisy_sine.negative_log_likelihood, settings.epochs * settings.points // x.shape[1], decay)
    return networks


def best_rate(kind: str, x: Tensor, y: Tensor, settings: Settings) -> float:
    """The rate whose networks give as many other points the highest likelihood, on average over the repeats."""
    count, rates = len(RATES), torch.tensor(RATES).repeat_interleave(len(x))
    networks = train_teachers(kind, x.repeat(count, 1, 1), y.repeat(count, 1, 1), rates, settings)
    other_x, other_y = (values[..., 0].repeat(count, 1) for values in noisy_sine.make_data(x.shape[1], len(x)))
    scores = noisy_sine.predict_by_passes(networks, other_x, settings.passes).log_likelihood(other_y.numpy())
    return RATES[scores.reshape(count, -1).mean(1).argmax()]


def distil(networks: Perceptrons, settings: Settings) -> Perceptrons:
    """Students with the outputs of `predict_in_one_pass`, learned from T passes at points in −2.5 to 2.5."""
    x = torch.empty(settings.repeats, STUDENT_POINTS).uniform_(-2.5, 2.5)
    teacher = noisy_sine.predict_by_passes(networks, x, settings.passes)
    moments = np.stack([teacher.mean, teacher.total_variance, teacher.expected_variance], -1)
    typical = torch.tensor(teacher.total_variance.mean(1, keepdims=True), dtype=torch.float32)
    students = Perceptrons([1, 64, 64, 3], torch.zeros(settings.repeats))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return moment_loss(outputs[..., 0], positive(outputs[..., 1:]), targets, typical)

    fit(students, x.unsqueeze(-1), torch.tensor(moments, dtype=torch.float32), loss, settings.epochs)
    return students


def positive(outputs: Tensor) -> Tensor:
    """Outputs as variances, which start near 0.05."""
    return F.softplus(outputs - 3) + 1e-6


@torch.no_grad()
def predict_in_one_pass(students: Perceptrons, x: Tensor) -> GaussianPrediction:
    """The students' predictions [B, N] at x [N]: mean, epistemic and aleatoric variance are their outputs."""
    outputs = students(x.expand(len(students.rates), -1).unsqueeze(-1)).double()
    return GaussianPrediction(outputs[..., 0].numpy(), *positive(outputs[..., 1:]).movedim(-1, 0).numpy())


def mean_pearson(variance: ndarray, other: ndarray) -> float:
    """The correlation over x of two variances [B, N], averaged over networks; NaN for a constant."""
    return (
        np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(variance, other, strict=True)])
        if np.ptp(other) > 1e-9
        else np.nan
    )


def main(settings: Settings) -> None:
    """Train every teacher and its students, measure, and write."""
    torch.manual_seed(settings.seed)
    record = common.provenance(settings, "cpu", "float32") | {"agreement": {}, "by_points": {}}
    figure = Figure(figsize=(11, 7), layout="constrained")
    figure.suptitle("Mean, epistemic and predictive band (two standard deviations) of all passes, and of one pass")
    for kind, axes in zip(KINDS, figure.subplots(2, 2, sharex=True, sharey=True), strict=True):
        record["by_points"][kind], record["agreement"][kind] = {}, {}
        for count in (settings.points // 4, settings.points // 2, settings.points):
            x, y = noisy_sine.make_data(count, settings.repeats)
            rate = best_rate(kind, x, y, settings)
            networks = train_teachers(kind, x, y, torch.full((len(x),), rate), settings)
            students = distil(networks, settings)
            teacher = noisy_sine.predict_by_passes(networks, GRID, settings.passes)
            student = predict_in_one_pass(students, GRID)
            record["by_points"][kind][str(count)] = {
                name: noisy_sine.means_by_place(prediction)
                for name, prediction in (("teacher", teacher), ("student", student))
            } | {"rate": rate}
        again = noisy_sine.predict_by_passes(networks, GRID, settings.passes)
        for part in PARTS:
            variance, other, distilled = (getattr(prediction, part) for prediction in (teacher, again, student))
            record["agreement"][kind][part] = {
                "pearson": mean_pearson(distilled, variance),
                "repeatability": mean_pearson(other, variance),
                "scale": distilled.mean() / variance.mean(),
            }
        for axis, name, prediction in zip(axes, ("teacher", "student"), (teacher, student), strict=True):
            axis.scatter(x[0, ::4], y[0, ::4], s=3, color=GREY, label="data (a quarter)")
            plot_bands(axis, prediction, f"{name}: {kind} noise")
    common.write("regression", record, tables, bands=figure)


def plot_bands(axis: Axes, prediction: GaussianPrediction, title: str) -> None:
    """Mean, epistemic and predictive band of the first network."""
    mean, epistemic, predictive = prediction.mean[0], prediction.total_variance[0], prediction.predictive_variance[0]
    for variance, colour, label in ((predictive, GREEN, "aleatoric + epistemic"), (epistemic, ORANGE, "epistemic")):
        low, high = mean - 2 * np.sqrt(variance), mean + 2 * np.sqrt(variance)
        axis.fill_between(GRID, low, high, color=colour, alpha=0.3, linewidth=0, label=label)
    axis.plot(GRID, mean, color=BLUE, label="mean")
    axis.set(title=title, ylim=(-3, 3), xlabel="x", ylabel="y")
    axis.legend(loc="upper left", ncols=2)


def tables(record: dict) -> dict[str, dict]:
    """Standard deviations, and the students' agreement."""
    deviations, agreement = {}, {}
    for kind, entries in record["by_points"].items():
        deviations[f"{kind} noise: rate of dropout"] = {
            f"{n} points": str(entry["rate"]) for n, entry in entries.items()
        }
        for part, place, name in product(PARTS, PLACES, ("teacher", "student")):
            values = {count: np.sqrt(entry[name][part][place]) for count, entry in entries.items()}
            deviations[f"{kind} noise: {PARTS[part]}, {PLACES[place]}, {name}"] = values
        agreement |= {f"{kind} noise: {PARTS[part]}": of for part, of in record["agreement"][kind].items()}
    return {
        "Dropout rates, and standard deviations (means over the networks)": deviations,
        "Pearson over x of the student's variance, and of as many other passes, with the teacher's": agreement,
    }


if __name__ == "__main__":
    common.start(main, Settings, __doc__)
