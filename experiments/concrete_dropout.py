"""Dropout rates that are learned with the weights (Gal, Hron & Kendall 2017): does the epistemic part fall with more
data, and do such rates make a better teacher?

    python -m experiments.concrete_dropout          # some 15 minutes on one CPU core with bfloat16 instructions

First in one dimension, on the data of regression.py. Then on CIFAR-10, with a VGG of seven layers at a quarter of the
width: prints the learned rates as a list for `teacher.conv_dropout`, and trains an ordinary teacher with it, beside one
with the usual rates. Writes results/concrete_dropout/; networks are in runs/concrete_dropout/.
"""

import math
from dataclasses import field, replace
from itertools import product

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

import data
import methods.teacher
from configs import cli, recipe
from configs.schema import Config, Count, Seed, dataclass
from data.augment import augment, draw_changes
from experiments import common, noisy_sine
from experiments.batched import fit
from experiments.concrete import ConcreteDropout, ConcretePerceptrons, negative_entropy
from experiments.noisy_sine import GRID, PARTS, PLACES
from methods.evaluation import measure
from methods.interface import Prediction
from models.architecture import start_as_identity
from models.networks import build
from train_teacher import parameter_groups
from training.bar import progress_bar
from training.compute import choose

RATE_LR = 0.5  # of the rates' logits on CIFAR-10
STARTS = (0.1, 0.3)  # rates that learning starts from, to see whether it matters; the teacher gets what the first gives
REPEATS, PASSES = 5, 200  # in one dimension: networks, and passes of each


@dataclass
class Settings:
    """What can be set on the command line."""

    points: list[Count] = field(default_factory=lambda: [64, 256, 1024, 4096])
    """Numbers of points in one dimension."""
    steps: Count = 8000
    """Of networks there."""
    teacher: str = "configs/tuning.yaml"
    """Settings of those on CIFAR-10."""
    seed: Seed = 0


def in_one_dimension(count: int, steps: int) -> dict:
    """Networks with two hidden layers on `count` points: the learned rates, and both parts of the variance."""
    x, y = noisy_sine.make_data(count, REPEATS)
    networks = ConcretePerceptrons([1, 128, 128, 2], REPEATS)

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        return noisy_sine.negative_log_likelihood(outputs, y) + networks.regularizer(count, 0.1).unsqueeze(1)

    fit(networks, x, y, loss, steps // math.ceil(count / 128))
    rates = torch.sigmoid(networks.logits.detach()[1:]).mean((1, 2, 3)).tolist()
    return {"rates": rates} | noisy_sine.means_by_place(noisy_sine.predict_by_passes(networks, GRID, PASSES))


def learn_rates(config: Config, start: float) -> tuple[list[float], list[float]]:
    """Rates of the convolutions and of the head, of a teacher with concrete dropout in the place of dropout. Weights
    keep the teacher's own decay; the rates are learned from the likelihood and their entropy."""
    changes, compute = config.data.augmentation, choose(config.device, config.dtype)
    train, _ = data.load_train(config.data, config.split_seed)
    settings = recipe.for_teacher(config.teacher, len(train), max(config.data.shape[:2]))
    torch.manual_seed(config.seed)
    model = build(methods.teacher.architecture(settings, config.data, len(train.classes)))
    if settings.identity_start:
        start_as_identity(model)
    methods.teacher.standardize(model, settings, train)
    groups = parameter_groups(model.train(), settings)
    layers = {name: ConcreteDropout(start) for name, layer in model.named_children() if isinstance(layer, nn.Dropout)}
    for name, layer in layers.items():
        setattr(model, name, layer)
    model.to(compute.device)
    groups.append({"params": [layer.logit for layer in layers.values()], "lr": RATE_LR, "weight_decay": 0.0})
    optimizer = torch.optim.SGD(groups, settings.lr, settings.momentum, nesterov=settings.momentum > 0)
    size, mirrored = settings.batch_size, torch.rand(len(train)) < 0.5
    peaks, steps = [group["lr"] for group in optimizer.param_groups], settings.epochs * (len(train) // size)
    schedule = OneCycleLR(optimizer, peaks, steps, pct_start=settings.warmup, cycle_momentum=False)
    for epoch in progress_bar(range(settings.epochs), desc=f"rates from {start}", unit="epoch"):
        for indices in torch.randperm(len(train))[: len(train) // size * size].split(size):
            draws = draw_changes(size, changes)
            if changes.flip == "alternating":
                draws.flip = mirrored[indices] ^ (epoch % 2 == 1)
            images = augment(train.batch(indices).to(compute.device), draws)
            with compute.autocast():
                logits = model(images).float()
            labels = train.labels[indices].to(compute.device)
            loss = F.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
            entropies = sum(layer.units * negative_entropy(layer.logit) for layer in layers.values())
            optimizer.zero_grad()
            (loss + entropies / len(train)).backward()
            optimizer.step()
            schedule.step()
    rates = [round(torch.sigmoid(layer.logit).item(), 4) for layer in layers.values()]
    heads = sum(name.startswith("head") for name in layers)
    return rates[:-heads], rates[-heads:]


def judge_teacher(config: Config) -> dict:
    """Quality of an ordinary teacher on validation images, and how well its uncertainties tell its errors."""
    teacher, compute = common.train_teacher(config)
    _, validation = data.load_train(config.data, config.split_seed)
    key = (config.seed, "judge")
    samples = common.sample_images(teacher, validation.images, config.evaluation.passes, key, compute)
    measured = measure({"validation": Prediction(samples)}, validation.labels.numpy())
    aurocs = {name: measured["errors"][name]["auroc"] for name in ("mutual_information", "predictive_entropy")}
    return {score: measured["before"][score] for score in ("accuracy", "nll", "ece")} | {"errors": aurocs}


def main(settings: Settings) -> None:
    """Both parts, and the page."""
    torch.manual_seed(settings.seed)
    record = common.provenance(settings)
    record["by_points"] = {str(count): in_one_dimension(count, settings.steps) for count in settings.points}
    base, _ = cli.parse(["--config", settings.teacher, "--seed", str(settings.seed)])
    learned = {str(start): learn_rates(base, start) for start in STARTS}
    conv, head = learned[str(STARTS[0])]
    record["cifar"] = {"learned": learned, "teachers": {}}
    for title, changes in (("usual rates", {}), ("learned rates", {"conv_dropout": conv, "head_dropout": head})):
        config = replace(base, name=f"concrete_dropout/{title.split()[0]}", teacher=replace(base.teacher, **changes))
        record["cifar"]["teachers"][title] = judge_teacher(config)
    common.write("concrete_dropout", record, tables, by_points=figure_of(next(iter(tables(record).values()))))


def figure_of(rows: dict[str, dict]) -> Figure:
    """Rates and standard deviations against the number of points: the rows of the first table."""
    panels = {"rate": [], "standard deviation": []}
    for name, values in rows.items():
        panel = panels["rate" if "rate" in name else "standard deviation"]
        panel.append((list(values), list(map(float, values.values())), name, {}))
    return common.plot_lines("Learned dropout rates in one dimension (means over networks)", "", panels)


def tables(record: dict) -> common.Tables:
    """One dimension, the rates on CIFAR-10, and the teachers with them."""
    entries, points = record["by_points"].items(), {}
    for layer in (0, 1):
        points[f"rate of layer {layer + 2}"] = {f"{n} points": f"{entry['rates'][layer]:.4f}" for n, entry in entries}
    for part, place in product(PARTS, PLACES):
        deviations = {count: math.sqrt(entry[part][place]) for count, entry in entries}
        points[f"{PARTS[part]} standard deviation, {PLACES[place]}"] = deviations
    learned, teachers = record["cifar"].values()
    return {
        f"In one dimension, means over {REPEATS} networks with 128 units a layer; {PASSES} passes": points,
        "On CIFAR-10, rates that were learned from two starts": {
            start: {"conv_dropout": f"`{conv}`", "head_dropout": f"`{head}`"} for start, (conv, head) in learned.items()
        },
        "Ordinary teachers on validation images, and the AUROC of their errors; the learned rates are the first": {
            title: {k: v for k, v in of.items() if k != "errors"} | of["errors"] for title, of in teachers.items()
        },
    }


if __name__ == "__main__":
    common.start(main, Settings, __doc__)
