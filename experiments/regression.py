"""Regression in one dimension: aleatoric and epistemic bands of MC-dropout, and of a student that gives them in one
pass.

    python experiments/regression.py --config configs/regression.yaml

Two teachers: one whose noise is a constant 1/τ, and one that learns its noise as a second output. Both are trained on
N/4, N/2 and N points, each with the dropout rate that is best for its number of points, by the likelihood of other
points: more data should lower the epistemic part, and not the aleatoric one. Writes results/<name>/regression.json,
README.md and figures.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import training  # noqa: F401  # isort: skip  # first: Ctrl-C during the other imports then prints one line
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy import ndarray
from torch import Tensor

from configs.schema import RunName
from models.batched import Loss, Perceptrons, fit, moments, sample
from plots.style import BLUE, GREEN, GREY, ORANGE, markdown, save
from training import artifact, cli
from training.compute import device_name
from training.run import made_by
from uncertainty.regression import Regression

KINDS = {"constant": "noise 1/τ", "learned": "noise learned"}
PARTS = {"expected_variance": "aleatoric", "total_variance": "epistemic"}
PLACES = {"data": "where data are", "gap": "in the gap", "beyond": "beyond the data"}


@dataclass
class Settings:
    """points: N. repeats: networks of each kind and number of points, on data drawn anew. passes: T of the teachers.
    rates: of dropout; one is chosen. lengthscale: of the prior; with N it gives the weight decay. epochs: at N points;
    with fewer points more."""

    name: RunName = "regression"
    points: int = 1024
    repeats: int = 20
    passes: int = 200
    rates: list[float] = field(default_factory=lambda: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1])
    lengthscale: float = 0.1
    epochs: int = 500
    hidden: int = 20
    student_hidden: int = 64
    student_epochs: int = 500
    seed: int = 0


def draw_changes(count: int, repeats: int) -> tuple[Tensor, Tensor]:
    """x and y [repeats, count, 1]: y = sin 3x + noise; x in −1.5 to −0.4 and 0.4 to 1.5."""
    x = torch.empty(repeats, count, 1).uniform_(0.4, 1.5) * torch.randn(repeats, count, 1).sign()
    return x, torch.sin(3 * x) + noise(x) * torch.randn_like(x)


def noise(x: Tensor) -> Tensor:
    """The standard deviation of y: 0.05 on the left, 0.35 on the right."""
    return 0.05 + 0.1 * (x + 1.5)


def place_of(x: ndarray) -> ndarray:
    """The name of each x's place."""
    return np.select([np.abs(x) < 0.4, np.abs(x) > 1.5], ["gap", "beyond"], "data")


def main(settings: Settings) -> None:
    """Train every teacher and its students, measure, and write."""
    torch.manual_seed(settings.seed)
    folder, grid = Path("results") / settings.name, torch.linspace(-2.5, 2.5, 501)
    record = {
        "settings": asdict(settings),
        "provenance": made_by(device_name(torch.device("cpu"))),
        "agreement": {},
        "by_points": {},
    }
    figure = Figure(figsize=(11, 7), layout="constrained")
    for kind, axes in zip(KINDS, figure.subplots(2, 2, sharex=True, sharey=True)):
        by_points = {}
        for count in (settings.points // 4, settings.points // 2, settings.points):
            x, y = draw(count, settings.repeats)
            rate = best_rate(kind, x, y, settings)
            networks = teachers(kind, x, y, torch.full((len(x),), rate), settings)
            students = distilled(networks, kind, settings)
            said = {"teacher": by_passes(networks, kind, grid, settings.passes), "student": in_one_pass(students, grid)}
            by_points[count] = {
                who: {part: part_means([getattr(r, part) for r in each], grid.numpy()) for part in PARTS}
                for who, each in said.items()
            } | {"rate": rate}
        record["by_points"][kind] = by_points
        again = by_passes(networks, kind, grid, settings.passes)
        record["agreement"][kind] = {part: agreement(part, said, again, grid.numpy()) for part in PARTS}
        for axis, (who, each) in zip(axes, said.items()):
            bands(axis, grid.numpy(), each[0], x[0, :, 0].numpy(), y[0, :, 0].numpy(), f"{who}: {KINDS[kind]}")
    figure.suptitle(
        f"Mean, epistemic and predictive band (two standard deviations) of {settings.passes} passes, and of one pass"
    )
    save(figure, folder / "bands.png")
    save(parts_by_points(record), folder / "points.png")
    artifact.write_json(folder / "regression.json", record)
    artifact.write_text(folder / "README.md", page(record))
    print(page(record))


def best_rate(kind: str, x: Tensor, y: Tensor, settings: Settings) -> float:
    """The rate whose networks give as many other points the highest likelihood, on average over the repeats."""
    count = len(settings.rates)
    networks = teachers(
        kind,
        x.repeat(count, 1, 1),
        y.repeat(count, 1, 1),
        torch.tensor(settings.rates).repeat_interleave(len(x)),
        settings,
    )
    other_x, other_y = (of[..., 0] for of in draw(x.shape[1], len(x)))
    said = by_passes(networks, kind, other_x.repeat(count, 1), settings.passes)
    scores = [r.log_likelihood(row).mean() for r, row in zip(said, other_y.repeat(count, 1).numpy())]
    return settings.rates[int(np.reshape(scores, (count, -1)).mean(1).argmax())]


def teachers(kind: str, x: Tensor, y: Tensor, rates: Tensor, settings: Settings) -> Perceptrons:
    """Dropout networks 1-20-20-1; with two outputs, mean and log variance, if the noise is learned (Kendall & Gal 2017,
    eq. 8)."""
    outputs = 1 if kind == "constant" else 2
    networks = Perceptrons([1, settings.hidden, settings.hidden, outputs], rates, drop_inputs=False)
    tau = 1 / constant_noise()

    def squares(said: Tensor, wanted: Tensor) -> Tensor:
        return tau / 2 * (said - wanted).square().squeeze(-1)

    loss: Loss = squares if kind == "constant" else likelihood
    decay = settings.lengthscale**2 * (1 - rates) / (2 * x.shape[1])  # Gal & Ghahramani 2016, eq. 18, times τ
    fit(
        networks,
        x,
        y,
        loss,
        settings.epochs * settings.points // x.shape[1],
        decay,
        f"{x.shape[1]} points, {kind} noise",
        falls=True,
    )
    return networks


def likelihood(said: Tensor, wanted: Tensor) -> Tensor:
    """−log N(y; mean, variance) without its constant [B, N], in nats, of mean and log variance [B, N, 2] (Kendall & Gal
    2017, eq. 8)."""
    mean, log_variance = said.unbind(-1)
    return ((wanted[..., 0] - mean).square() * torch.exp(-log_variance) + log_variance) / 2


def constant_noise() -> float:
    """The mean variance of the noise where data are: 1/τ."""
    x = torch.linspace(0.4, 1.5, 1000)
    return float(noise(torch.cat([x, -x])).square().mean())


def samples_of(networks: Perceptrons, kind: str, x: Tensor, passes: int) -> tuple[Tensor, Tensor]:
    """T samples of mean and noise variance [B, N, T] at x [N] or [B, N]."""
    samples = sample(networks, x.expand(len(networks.rates), -1).unsqueeze(-1), passes)
    means = samples[..., 0]
    return means, torch.full_like(means, constant_noise()) if kind == "constant" else samples[..., 1].exp()


def by_passes(networks: Perceptrons, kind: str, x: Tensor, passes: int) -> list[Regression]:
    """What each teacher says, by T passes."""
    means, variances = samples_of(networks, kind, x, passes)
    return [Regression.of_samples(m.double().numpy(), v.double().numpy()) for m, v in zip(means, variances)]


def distilled(networks: Perceptrons, kind: str, settings: Settings) -> Perceptrons:
    """Students: mean, epistemic and aleatoric variance in one pass, learned from T passes at points between −2.5 and
    2.5."""
    x = torch.empty(settings.repeats, 2048).uniform_(-2.5, 2.5)
    means, variances = samples_of(networks, kind, x, settings.passes)
    targets = torch.stack([means.mean(2), means.var(2), variances.mean(2)], 2)
    typical = targets[..., 1].mean(1, keepdim=True)
    students = Perceptrons([1, settings.student_hidden, settings.student_hidden, 3], torch.zeros(settings.repeats))

    def loss(said: Tensor, wanted: Tensor) -> Tensor:
        return moments(said[..., 0], variances_of(said), wanted, typical)

    fit(students, x.unsqueeze(-1), targets, loss, settings.student_epochs, 0.0, f"students, {kind} noise", falls=True)
    return students


def variances_of(outputs: Tensor) -> Tensor:
    """A student's epistemic and aleatoric variance [..., 2]; they start near 0.05."""
    return F.softplus(outputs[..., 1:] - 3) + 1e-6


@torch.no_grad()
def in_one_pass(students: Perceptrons, x: Tensor) -> list[Regression]:
    """What each student says."""
    said = students(x.expand(len(students.rates), -1).unsqueeze(-1)).double()
    variances = variances_of(said).numpy()
    return [Regression(mean, both[:, 0], both[:, 1]) for mean, both in zip(said[..., 0].numpy(), variances)]


def part_means(variances: list[ndarray], x: ndarray) -> dict[str, float]:
    """The mean of variances [N] in each place, over networks."""
    return {place: float(np.mean([v[place_of(x) == place] for v in variances])) for place in PLACES}


def agreement(part: str, said: dict[str, list[Regression]], again: list[Regression], x: ndarray) -> dict[str, float]:
    """Pearson over x of the student's variance, and of T other passes', with the teacher's, and scale: means over
    networks."""

    def pearson(these: list[Regression]) -> float:
        pairs = [(getattr(a, part), getattr(b, part)) for a, b in zip(these, said["teacher"])]
        return (
            float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])) if np.ptp(pairs[0][1]) > 1e-9 else float("nan")
        )

    means = {who: np.mean([getattr(r, part) for r in each]) for who, each in said.items()}
    return {
        "pearson": pearson(said["student"]),
        "repeatability": pearson(again),
        "scale": float(means["student"] / means["teacher"]),
    }


def bands(axis, x: ndarray, said: Regression, data_x: ndarray, data_y: ndarray, title: str) -> None:
    """Mean and two bands over the data."""
    axis.scatter(data_x[::4], data_y[::4], s=3, color=GREY, label="data (a quarter)")
    for variance, colour, label in (
        (said.predictive_variance, GREEN, "aleatoric + epistemic"),
        (said.total_variance, ORANGE, "epistemic"),
    ):
        width = 2 * np.sqrt(variance)
        axis.fill_between(x, said.mean - width, said.mean + width, color=colour, alpha=0.3, linewidth=0, label=label)
    axis.plot(x, said.mean, color=BLUE, label="mean")
    axis.set(title=title, ylim=(-3, 3), xlabel="x", ylabel="y")
    axis.legend(loc="upper left", ncols=2)


def parts_by_points(record: dict) -> Figure:
    """Both parts against the number of points."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    figure.suptitle("Standard deviations against the number of points (mean variance over networks)")
    for axis, (kind, by_points) in zip(figure.subplots(1, 2), record["by_points"].items()):
        for part, colour in zip(PARTS, (GREEN, ORANGE)):
            for place, marker in zip(PLACES, "os^"):
                for who, style in (("teacher", "-"), ("student", ":")):
                    heights = [np.sqrt(found[who][part][place]) for found in by_points.values()]
                    label = f"{PARTS[part]}, {PLACES[place]}: {who}"
                    axis.plot(list(by_points), heights, style, marker=marker, markersize=4, color=colour, label=label)
        axis.set(xscale="log", xlabel="points", title=KINDS[kind])
        axis.set_ylim(bottom=0)
        axis.set_xticks(list(by_points), [str(count) for count in by_points])
        axis.minorticks_off()
    figure.axes[1].legend(bbox_to_anchor=(1, 1), fontsize=7)
    return figure


def page(record: dict) -> str:
    """The results as Markdown."""
    ran, settings = record["provenance"], record["settings"]
    agreed = [
        [
            KINDS[kind],
            PARTS[part],
            *(
                "constant" if np.isnan(found["pearson"]) else f"{found[key]:.3f}"
                for key in ("pearson", "repeatability")
            ),
            f"{found['scale']:.2f}",
        ]
        for kind, parts in record["agreement"].items()
        for part, found in parts.items()
    ]
    rows = [
        [
            KINDS[kind],
            f"{PARTS[part]}, {PLACES[place]}",
            who,
            *(f"{np.sqrt(found[who][part][place]):.3f}" for found in by_points.values()),
        ]
        for kind, by_points in record["by_points"].items()
        for part in PARTS
        for place in PLACES
        for who in ("teacher", "student")
    ]
    chosen = [
        [KINDS[kind], "chosen rate of dropout", "", *(str(found["rate"]) for found in of.values())]
        for kind, of in record["by_points"].items()
    ]
    counts = [f"{count} points" for count in next(iter(record["by_points"].values()))]
    return (
        f"# regression\n\nMade by `{ran['command']}` (commit {ran['commit']}; {ran['device']}). Means over {settings['repeats']} networks; "
        f"{settings['passes']} passes.\n\n## Student against teacher, over x\n\n"
        f"{markdown(['teacher', 'part', 'Pearson', 'of as many other passes', 'scale'], agreed)}\n\n"
        f"## Standard deviations\n\n{markdown(['teacher', 'part', 'by', *counts], chosen + rows)}\n"
    )


if __name__ == "__main__":
    cli.guard(lambda: main(cli.read_settings(Settings, __doc__)))
