"""Dropout rates that are learned with the weights (Gal, Hron & Kendall 2017): does the epistemic part fall with more
data, and do such rates make a better teacher?

    python experiments/concrete_dropout.py --config configs/concrete_dropout.yaml

First in one dimension, on the data of regression.py. Then on CIFAR-10: prints the learned rates as a list for
`teacher.conv_dropout`, and trains an ordinary teacher with it, beside one with the usual rates. Writes
results/<name>/concrete_dropout.json, README.md and a figure; the two teachers are rows of a comparison in
results/<name>_teachers/.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import training  # noqa: F401  # isort: skip  # first: Ctrl-C during the other imports then prints one line
import math
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import compare
import data
from configs.schema import Config, RunName
from experiments import regression
from methods import teacher
from models.architecture import start_as_identity
from models.batched import Perceptrons, fit, sample
from models.networks import build
from plots.style import BLUE, GREEN, ORANGE, markdown, save
from train_teacher import classification_task
from training import artifact, cli, loop
from training.compute import device_name
from training.run import begin, made_by
from uncertainty.regression import Regression

TEMPERATURE = 0.1  # of the concrete relaxation
FIRST_RATE = 0.1
SPEED = 10  # how much faster than the weights the logits of the rates learn; with 1 they end where the training ends


@dataclass
class Settings:
    """points: numbers of points in one dimension. hidden, repeats, passes, steps: of the networks there. cifar: whether
    to run it. settings: of its teachers, judged on validation images. width: of their network. starts: rates that the
    learning starts from, to see whether it matters; an ordinary teacher gets what comes from the first. rate_lr: the
    rates' learning rate. runs: their folder."""

    name: RunName = "concrete_dropout"
    points: list[int] = field(default_factory=lambda: [64, 256, 1024, 4096])
    hidden: int = 128
    repeats: int = 5
    passes: int = 200
    steps: int = 8000
    settings: str = "configs/tuning.yaml"
    width: float = 0.25
    starts: list[float] = field(default_factory=lambda: [0.1, 0.3])
    rate_lr: float = 0.5
    runs: str = "runs"
    cifar: bool = True
    seed: int = 0


def concrete(x: Tensor, logit: Tensor) -> Tensor:
    """x with dropout of the rate sigmoid(logit), relaxed so that it has a gradient (Gal et al. 2017, eq. 5)."""
    u = torch.rand_like(x).clamp(1e-6, 1 - 1e-6)
    dropped = torch.sigmoid((logit + torch.logit(u)) / TEMPERATURE)
    return x * (1 - dropped) / (1 - torch.sigmoid(logit))


def negative_entropy(logit: Tensor) -> Tensor:
    """−H(p) of a rate p = sigmoid(logit), in nats: times the number of units and over N, it is a layer's part of the
    loss (eq. 3)."""
    p = torch.sigmoid(logit)
    return p * torch.log(p) + (1 - p) * torch.log1p(-p)


class ConcretePerceptrons(Perceptrons):
    """Perceptrons that learn a rate for each layer but the first."""

    def __init__(self, sizes: list[int], count: int):
        super().__init__(sizes, torch.zeros(count), drop_inputs=False)
        self.slow = nn.Parameter(
            torch.full((len(sizes) - 1, count, 1, 1), math.log(FIRST_RATE / (1 - FIRST_RATE)) / SPEED)
        )

    @property
    def logits(self) -> Tensor:
        return SPEED * self.slow

    def dropped(self, x: Tensor, place: int) -> Tensor:
        return concrete(x, self.logits[place])

    def regularizer(self, count: int, lengthscale: float) -> Tensor:
        """The weights' and the rates' part of the loss of `count` points [B] (eq. 3)."""
        total = torch.zeros(len(self.rates))
        for place, weight in enumerate(self.weights):
            squares, logit = weight.square().sum((1, 2)), self.logits[place].flatten()
            kept = 1 - torch.sigmoid(logit) if place else torch.ones(())
            total = total + lengthscale**2 * squares / (2 * kept * count)
            if place:
                total = total + weight.shape[1] * negative_entropy(logit) / count
        return total


class ConcreteDropout(nn.Module):
    """Dropout in a network's layers, of a rate that is learned; always on."""

    def __init__(self, rate: float):
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(math.log(rate / (1 - rate))))
        self.units = 0

    def forward(self, x: Tensor) -> Tensor:
        self.units = x.shape[1]  # channels: the authors' number of units of a map
        return concrete(x.float(), self.logit).to(x.dtype)


def main(settings: Settings) -> None:
    """Both parts, and the page."""
    torch.manual_seed(settings.seed)
    folder = Path("results") / settings.name
    record = {
        "settings": asdict(settings),
        "provenance": made_by(device_name(torch.device("cpu"))),
        "by_points": {str(count): in_one_dimension(count, settings) for count in settings.points},
    }
    save(by_points(record), folder / "by_points.png")
    artifact.write_json(folder / "concrete_dropout.json", record)
    if settings.cifar:
        record["cifar"] = on_cifar(settings)
        artifact.write_json(folder / "concrete_dropout.json", record)
    artifact.write_text(folder / "README.md", page(record))
    print(page(record))


def in_one_dimension(count: int, settings: Settings) -> dict:
    """Networks with two hidden layers on `count` points: the learned rates, and both parts of the variance where data
    are."""
    x, y = regression.draw(count, settings.repeats)
    networks = ConcretePerceptrons([1, settings.hidden, settings.hidden, 2], settings.repeats)

    def loss(said: Tensor, wanted: Tensor) -> Tensor:
        return regression.likelihood(said, wanted) + networks.regularizer(count, lengthscale=0.1).unsqueeze(1)

    epochs = settings.steps // math.ceil(count / 128)
    fit(networks, x, y, loss, epochs, 0.0, f"{count} points", falls=True)
    grid = torch.linspace(-2.5, 2.5, 501)
    samples = sample(networks, grid.view(1, -1, 1).expand(settings.repeats, -1, 1), settings.passes).double().numpy()
    said = [Regression.of_samples(of[..., 0], np.exp(of[..., 1])) for of in samples]
    rates = torch.sigmoid(networks.logits.detach()[1:]).mean((1, 2, 3)).tolist()
    parts = {part: regression.part_means([getattr(r, part) for r in said], grid.numpy()) for part in regression.PARTS}
    return {"rates": rates, **parts}


def on_cifar(settings: Settings) -> dict:
    """The learned rates of a teacher, and ordinary teachers with them and with the usual ones."""
    base, _ = cli.parse(["--config", settings.settings])
    own = {
        "name": f"{settings.name}_teachers",
        "runs": settings.runs,
        "seed": settings.seed,
        "teacher": {"width": settings.width},
    }
    base = cli.override(replace(base, rows=[]), own, "concrete_dropout")
    learned = [
        learned_rates(replace(base, name=f"{settings.name}_rates_{start}"), start, settings)
        for start in settings.starts
    ]
    conv, head = learned[0]
    print(f"learned: conv_dropout: {conv}, head_dropout: {head}")
    changes = {"teacher": {"conv_dropout": conv, "head_dropout": head}}
    rows = [
        {"title": "usual rates", "kind": "teacher"},
        {"title": "learned rates", "kind": "teacher", "changes": changes},
    ]
    compare.main(cli.override(base, {"rows": rows}, "concrete_dropout"), overwrite=False)
    found = {}
    for title in ("usual rates", "learned rates"):
        result = artifact.read_json(Path("results") / base.name / f"{compare.slug_of(title)}-{settings.seed}.json")
        found[title] = {key: result["before"][key] for key in ("accuracy", "nll", "ece")}
        found[title]["errors"] = {m: result["errors"][m]["auroc"] for m in ("mutual_information", "predictive_entropy")}
    return {"learned": dict(zip(map(str, settings.starts), learned)), "teachers": found}


def learned_rates(config: Config, start: float, settings: Settings) -> tuple[list[float], list[float]]:
    """Rates of a network that is trained as a teacher, with concrete dropout in the place of dropout.

    The weights keep the teacher's own decay; the rates are learned from the likelihood and their entropy.
    """
    run, compute = begin(config, "teacher")
    train, validation = data.load_train(config.data, config.split_seed, False)
    torch.manual_seed(config.seed)
    model = build(teacher.architecture(config, len(train.classes)))
    if config.teacher.identity_start:
        start_as_identity(model)
    teacher.standardize(model, config.teacher, train)
    for name, layer in list(model.named_children()):
        if isinstance(layer, nn.Dropout):
            setattr(model, name, ConcreteDropout(start))
    layers = {name: layer for name, layer in model.named_children() if isinstance(layer, ConcreteDropout)}
    task = classification_task(model.to(compute.device), train, validation, config, compute)
    for group in task.optimizer.param_groups:
        group["params"] = [p for p in group["params"] if all(p is not layer.logit for layer in layers.values())]
    task.optimizer.add_param_group(
        {"params": [layer.logit for layer in layers.values()], "lr": settings.rate_lr, "weight_decay": 0.0}
    )
    plain = task.losses

    def losses(model: nn.Module, batch: tuple) -> loop.Losses:
        found = plain(model, batch)
        entropies = sum(layer.units * negative_entropy(layer.logit) for layer in layers.values())
        return found | {"loss": found["loss"] + entropies / len(train)}

    loop.fit(replace(task, losses=losses), run, compute, {"rates": "learned", "settings": asdict(settings)})
    run.end()
    rates = {name: round(torch.sigmoid(layer.logit).item(), 4) for name, layer in layers.items()}
    conv = [rate for name, rate in rates.items() if not name.startswith("head")]
    return conv, [rate for name, rate in rates.items() if name.startswith("head")]


def by_points(record: dict) -> Figure:
    """Rates and standard deviations against the number of points."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle("Learned dropout rates in one dimension (means over networks)")
    rates, parts = figure.subplots(1, 2)
    found = {int(count): entry for count, entry in record["by_points"].items()}
    for layer, colour in enumerate((BLUE, ORANGE)):
        rates.plot(
            list(found),
            [entry["rates"][layer] for entry in found.values()],
            marker="o",
            color=colour,
            label=f"layer {layer + 2}",
        )
    for part, colour in zip(regression.PARTS, (GREEN, ORANGE)):
        for place, style in zip(regression.PLACES, ("-", "--", ":")):
            heights = [math.sqrt(entry[part][place]) for entry in found.values()]
            label = f"{regression.PARTS[part]}, {regression.PLACES[place]}"
            parts.plot(list(found), heights, style, marker="o", markersize=4, color=colour, label=label)
    for axis, label in ((rates, "rate"), (parts, "standard deviation")):
        axis.set(xscale="log", xlabel="points", ylabel=label)
        axis.set_ylim(bottom=0)
        axis.set_xticks(list(found), [str(count) for count in found])
        axis.minorticks_off()
        axis.legend()
    return figure


def page(record: dict) -> str:
    """The results as Markdown."""
    ran, settings = record["provenance"], record["settings"]
    counts = list(record["by_points"])
    entries = list(record["by_points"].values())
    rows = [
        [f"rate of layer {layer + 2}", *(f"{entry['rates'][layer]:.4f}" for entry in entries)] for layer in range(2)
    ]
    for part, title in regression.PARTS.items():
        for place, where in regression.PLACES.items():
            rows.append(
                [f"{title} standard deviation, {where}", *(f"{math.sqrt(entry[part][place]):.3f}" for entry in entries)]
            )
    text = (
        f"# concrete_dropout\n\nMade by `{ran['command']}` (commit {ran['commit']}; {ran['device']}).\n\n## One dimension\n\n"
        f"Means over {settings['repeats']} networks with {settings['hidden']} units a layer; {settings['passes']} passes.\n\n"
        f"{markdown(['', *(f'{count} points' for count in counts)], rows)}\n"
    )
    if cifar := record.get("cifar"):
        lines = [
            [
                title,
                *(f"{found[key]:.3f}" for key in ("accuracy", "nll", "ece")),
                *(f"{value:.3f}" for value in found["errors"].values()),
            ]
            for title, found in cifar["teachers"].items()
        ]
        learned = [[start, *(f"`{rates}`" for rates in both)] for start, both in cifar["learned"].items()]
        head = ["teacher", "accuracy", "NLL", "ECE", "errors' AUROC by mutual information", "by predictive entropy"]
        text += (
            f"\n## CIFAR-10, width {settings['width']}\n\n{markdown(['learned from', 'conv_dropout', 'head_dropout'], learned)}\n\n"
            f"Ordinary teachers, on 5,000 validation images; the learned rates are those of the first line:\n\n{markdown(head, lines)}\n"
        )
    return text


if __name__ == "__main__":
    cli.guard(lambda: main(cli.read_settings(Settings, __doc__)))
