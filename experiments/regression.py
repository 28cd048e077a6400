"""Regression in one dimension: aleatoric and epistemic bands of MC-dropout, and of a student that gives them in one
pass.

    python -m experiments.regression          # no data; a few minutes on one CPU core

Two teachers: one whose noise is a constant 1/τ, and one that learns its noise as a second output. Both are trained on
N/4, N/2 and N points, each with the dropout rate that is best for its number of points, by the likelihood of other
points: more data should lower the epistemic part, and not the aleatoric one. Writes results/regression/.
"""

from itertools import product
from typing import Annotated

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray
from pydantic import Field
from torch import Tensor

from configs.schema import Count, Seed, Several, dataclass
from experiments import common, noisy_sine
from experiments.batched import Perceptrons, fit, fit_students, moments
from experiments.gaussian_regression import GaussianPrediction
from experiments.noisy_sine import GRID, PARTS, PLACES, predict_by_passes
from plots.style import BLUE, GREEN, GREY, ORANGE

RATES = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1]
STUDENT_POINTS = 2048
START = -3.0  # of the students' variances
LENGTHSCALE = 0.1  # of the prior; with N it gives the weight decay
KINDS = ("constant", "learned")  # the noise of y: 1/τ, or a second output


@dataclass
class Settings:
    """What can be set on the command line."""

    points: Annotated[int, Field(ge=4)] = 1024
    """N; networks of N/2 and N/4 points are trained too."""
    repeats: Count = 20
    """Networks of each kind and number of points, on other data each."""
    passes: Several = 200
    """T of the teachers."""
    epochs: Count = 500
    """At N points, and of the students; teachers of fewer points have more."""
    seed: Seed = 0


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
    scores = predict_by_passes(networks, other_x, settings.passes).log_likelihood(other_y.numpy())
    return RATES[scores.reshape(count, -1).mean(1).argmax()]


def distil(networks: Perceptrons, settings: Settings) -> Perceptrons:
    """Students of T passes at points in −2.5 to 2.5."""
    x = torch.empty(settings.repeats, STUDENT_POINTS).uniform_(-2.5, 2.5)
    teacher = predict_by_passes(networks, x, settings.passes)
    return fit_students(x.unsqueeze(-1), torch.tensor(np.stack(teacher, -1)), [64, 64], START, settings.epochs)


def predict_in_one_pass(students: Perceptrons) -> GaussianPrediction:
    """The students' predictions [B, N] on the grid: mean, epistemic and aleatoric variance are their outputs."""
    return GaussianPrediction(*moments(students, GRID.expand(len(students.rates), -1).unsqueeze(-1), START))


def agreement(teacher: ndarray, again: ndarray, student: ndarray) -> dict[str, float]:
    """How well a variance [B, N] agrees with the teacher's: that of as many other passes, and the student's."""
    return {
        "pearson": mean_pearson(student, teacher),
        "repeatability": mean_pearson(again, teacher),
        "scale": student.mean() / teacher.mean(),
    }


def mean_pearson(variance: ndarray, other: ndarray) -> float:
    """The correlation over x of two variances [B, N], averaged over networks; NaN for a constant."""
    if np.ptp(other) < 1e-9:
        return np.nan
    return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(variance, other, strict=True)])


def main(settings: Settings) -> None:
    """Train every teacher and its students, measure, and write."""
    torch.manual_seed(settings.seed)
    record = common.provenance(settings, "cpu", "float32") | {"agreement": {}, "by_points": {}}
    figure = Figure(figsize=(11, 7))
    figure.suptitle("Mean, epistemic and predictive band (two standard deviations) of all passes, and of one pass")
    for kind, axes in zip(KINDS, figure.subplots(2, 2, sharex=True, sharey=True), strict=True):
        by_points = record["by_points"][kind] = {}
        for count in (settings.points // 4, settings.points // 2, settings.points):
            x, y = noisy_sine.make_data(count, settings.repeats)
            rate = best_rate(kind, x, y, settings)
            networks = train_teachers(kind, x, y, torch.full((len(x),), rate), settings)
            students = distil(networks, settings)
            teacher, student = predict_by_passes(networks, GRID, settings.passes), predict_in_one_pass(students)
            by_points[str(count)] = {
                "teacher": noisy_sine.means_by_place(teacher),
                "student": noisy_sine.means_by_place(student),
                "rate": rate,
            }
        predictions = teacher, predict_by_passes(networks, GRID, settings.passes), student
        record["agreement"][kind] = {part: agreement(*(getattr(p, part) for p in predictions)) for part in PARTS}
        for axis, name, prediction in zip(axes, ("teacher", "student"), (teacher, student), strict=True):
            axis.scatter(x[0, ::4], y[0, ::4], s=3, color=GREY, label="data (a quarter)")
            plot_bands(axis, prediction, f"{name}: {kind} noise")
    common.write("regression", record, tables, bands=figure)


def plot_bands(axis: Axes, prediction: GaussianPrediction, title: str) -> None:
    """Mean, epistemic and predictive band of the first network."""
    mean = prediction.mean[0]
    for variance, colour, label in (
        (prediction.predictive_variance, GREEN, "aleatoric + epistemic"),
        (prediction.total_variance, ORANGE, "epistemic"),
    ):
        width = 2 * np.sqrt(variance[0])
        axis.fill_between(GRID, mean - width, mean + width, color=colour, alpha=0.3, linewidth=0, label=label)
    axis.plot(GRID, mean, color=BLUE, label="mean")
    axis.set(title=title, ylim=(-3, 3), xlabel="x", ylabel="y")
    axis.legend(loc="upper left", ncols=2)


def tables(record: dict) -> common.Tables:
    """Standard deviations, and the students' agreement."""
    deviations, agreements = {}, {}
    for kind, entries in record["by_points"].items():
        deviations[f"{kind} noise: rate of dropout"] = {f"{n} points": str(of["rate"]) for n, of in entries.items()}
        for part, place, name in product(PARTS, PLACES, ("teacher", "student")):
            values = {count: np.sqrt(of[name][part][place]) for count, of in entries.items()}
            deviations[f"{kind} noise: {PARTS[part]}, {PLACES[place]}, {name}"] = values
        agreements |= {f"{kind} noise: {PARTS[part]}": of for part, of in record["agreement"][kind].items()}
    return {
        "Dropout rates, and standard deviations (means over the networks)": deviations,
        "Pearson over x of the student's variance, and of as many other passes, with the teacher's": agreements,
    }


if __name__ == "__main__":
    common.start(main, Settings, __doc__)
