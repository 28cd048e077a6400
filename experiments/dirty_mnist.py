"""Ambiguous and unknown images (Mukhoti et al. 2021, figures 1 and 2): which uncertainty tells which of them apart, and
does a student's split into aleatoric and epistemic survive?

    python experiments/dirty_mnist.py --config configs/dirty_mnist.yaml

Makes ambiguous digits (ours: the authors' set is not at hand): a small VAE of MNIST decodes points between two digits
of different classes, and an image is kept if networks trained on MNIST are split between two classes. Labels are drawn
from what they say. Then networks are trained on MNIST and ambiguous digits together; Fashion-MNIST is out of
distribution. The same networks on Fashion-MNIST, and on MNIST, are set beside published figures. Writes
results/<name>/dirty_mnist.json, README.md and figures.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import training  # noqa: F401  # isort: skip  # first: Ctrl-C during the other imports then prints one line
from dataclasses import asdict, dataclass, replace
from itertools import count

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy import ndarray
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchvision.datasets.mnist import read_image_file

import compare
import data
from configs.errors import UserError
from configs.schema import Config, Data, DataSet, RunName
from data.dataset import Dataset
from methods import teacher
from plots.comparison import OWN, load, own_score
from plots.style import BLUE, GREEN, MEASURE_NAMES, ORANGE, markdown, save
from training import artifact, cli
from training.bar import note, progress_bar
from training.compute import choose
from training.run import made_by
from uncertainty.classification import ood_detection

IMAGES = Path("runs/dirty_mnist.npz")
LETTERS = Path("datasets/notmnist/t10k-images-idx3-ubyte")
SETS = ("clean", "ambiguous", "unknown")
SCORES = (
    "predictive_entropy",
    "expected_entropy",
    "mutual_information",
    "total_variance",
    "entropy_minus_variance",
    *OWN,
)


@dataclass
class Settings:
    """ambiguous: images of training; a sixth as many are for tests. labels: drawn for each. vae_epochs, judge_epochs,
    judges: of the VAE, and of the networks that say what is ambiguous. epochs, student_epochs: of the networks
    compared; ddu_epochs: of DDU's ResNet-18 of half width, or 0 to leave it out. limit: of MNIST's images, for
    tests."""

    name: RunName = "dirty_mnist"
    mnist: str = "datasets"
    fashion: str = "datasets"
    ambiguous: int = 20_000
    labels: int = 3
    vae_epochs: int = 15
    judges: int = 3
    judge_epochs: int = 3
    epochs: int = 10
    student_epochs: int = 8
    members: int = 5
    ddu_epochs: int = 3
    limit: int | None = None
    seed: int = 0


def lenet(rate: float) -> nn.Module:
    """LeNet with dropout behind every layer but the last."""
    drop = nn.Dropout
    return nn.Sequential(
        *(
            nn.Conv2d(1, 20, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            drop(rate),
            nn.Conv2d(20, 50, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            drop(rate),
        ),
        *(nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), drop(rate), nn.Linear(500, 10)),
    )


class VAE(nn.Module):
    """A variational autoencoder of flat images in [0, 1] (Kingma & Welling 2014)."""

    def __init__(self, latent: int = 10):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, 400), nn.ReLU(), nn.Linear(400, 784))

    def loss(self, x: Tensor) -> Tensor:
        """The negative evidence lower bound, in nats an image (eq. 10)."""
        mean, log_variance = self.encoder(x).chunk(2, 1)
        said = self.decoder(mean + torch.randn_like(mean) * (log_variance / 2).exp())
        reconstruction = F.binary_cross_entropy_with_logits(said, x, reduction="sum")
        return (reconstruction + 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum()) / len(x)


def main(settings: Settings) -> None:
    """Make the images, train all methods, and measure what their scores tell apart."""
    notmnist("test")  # if it is missing, this stops the run here, not after training
    digits_of(settings)
    base = config_of(settings)
    compare.main(base, overwrite=False)
    record = {
        "settings": asdict(settings),
        "provenance": made_by(str(choose(base.device, base.dtype))),
        "methods": measured(base, settings),
        "published": {name: beside(base, settings, name) for name in PUBLISHED},
    }
    folder = Path("results") / settings.name
    artifact.write_json(folder / "dirty_mnist.json", record)
    artifact.write_text(folder / "README.md", page(record))
    print(page(record))


def digits_of(settings: Settings) -> tuple[Dataset, Dataset]:
    """MNIST's training and test images. The first call writes the ambiguous ones too."""
    form = Data(size=28, channels=1)
    train, test = (data.load(DataSet("mnist", settings.mnist), split, form) for split in ("train", "test"))
    train, test = (of.subset(torch.arange(len(of))[: settings.limit]) for of in (train, test))
    if not IMAGES.exists():
        torch.manual_seed(settings.seed)
        make_images(train, test, settings)
    if (kept := str(np.load(IMAGES)["settings"])) != (wanted := made_with(settings)):
        raise UserError(
            f"{IMAGES} has ambiguous digits of other settings ({kept}, not {wanted}); delete it, and they are made anew"
        )
    return train, test


def made_with(settings: Settings) -> str:
    """The settings that determine the ambiguous digits."""
    return str(
        {
            name: getattr(settings, name)
            for name in ("ambiguous", "labels", "vae_epochs", "judges", "judge_epochs", "limit", "seed")
        }
    )


def make_images(train: Dataset, test: Dataset, settings: Settings) -> None:
    """Write the clean and the ambiguous digits of both splits, with their labels."""
    x = train.images.flatten(1).float() / 255
    vae = VAE()
    trained(vae, vae.loss, [x], settings.vae_epochs, "VAE")
    judges = [lenet(0.3) for _ in range(settings.judges)]
    for judge in judges:

        def loss(images: Tensor, labels: Tensor, judge: nn.Module = judge) -> Tensor:
            return F.cross_entropy(judge(images.unflatten(1, (1, 28, 28))), labels)

        trained(judge, loss, [x, train.labels], settings.judge_epochs, "judge")
        judge.eval()
    arrays = {"settings": np.array(made_with(settings))}
    for split, dataset, wanted in (("train", train, settings.ambiguous), ("test", test, settings.ambiguous // 6)):
        images, shares = ambiguous(vae, judges, dataset, wanted)
        labels = torch.multinomial(shares, settings.labels if split == "train" else 1, replacement=True)
        arrays |= {f"{split}_clean": dataset.images.numpy(), f"{split}_clean_labels": dataset.labels.numpy()}
        arrays |= {f"{split}_ambiguous": images.numpy(), f"{split}_ambiguous_labels": labels.numpy()}
    with artifact.replacing(IMAGES) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    save(examples(arrays), Path("results") / settings.name / "images.png")


def trained(model: nn.Module, loss, tensors: list[Tensor], epochs: int, what: str) -> None:
    """Train by Adam in batches of 128."""
    optimizer = torch.optim.Adam(model.parameters())
    for _ in progress_bar(range(epochs), desc=what, unit="epoch", leave=False):
        for rows in torch.randperm(len(tensors[0])).split(128):
            optimizer.zero_grad()
            loss(*(tensor[rows] for tensor in tensors)).backward()
            optimizer.step()


@torch.no_grad()
def ambiguous(vae: VAE, judges: list[nn.Module], dataset: Dataset, wanted: int) -> tuple[Tensor, Tensor]:
    """`wanted` images between two digits [N, 28, 28, 1], and what the judges say of them [N, 10]: the second class has
    a share of 0.2 or more, and both together 0.8 or more."""
    codes = torch.cat(
        [vae.encoder(part.flatten(1).float() / 255).chunk(2, 1)[0] for part in dataset.images.split(4096)]
    )
    images, shares = [], []
    for attempt in count():
        if sum(map(len, images)) >= wanted:
            break
        if attempt >= 20 * (1 + sum(map(len, images))):
            raise UserError("vae_epochs: hardly any image between two digits is ambiguous; train for more epochs")
        first, second = torch.randint(len(codes), (2, 2000))
        share = torch.empty(2000, 1).uniform_(0.3, 0.7)
        chosen = dataset.labels[first] != dataset.labels[second]
        pixels = vae.decoder(share * codes[first] + (1 - share) * codes[second]).sigmoid()[chosen]
        said = torch.stack([judge(pixels.unflatten(1, (1, 28, 28))).softmax(1) for judge in judges]).mean(0)
        top = said.topk(2, 1).values
        kept = (top[:, 1] >= 0.2) & (top.sum(1) >= 0.8)
        images.append((255 * pixels[kept]).round().to(torch.uint8).view(-1, 28, 28, 1))
        shares.append(said[kept])
    return torch.cat(images)[:wanted], torch.cat(shares)[:wanted]


def dirty(split: str) -> TensorDataset:
    """Clean and ambiguous digits together: a data set for `data.train`. An ambiguous image is there once for each of
    its labels."""
    arrays = np.load(IMAGES)
    clean, unclear = (torch.from_numpy(arrays[f"{split}_{name}"]) for name in ("clean", "ambiguous"))
    clean_labels, labels = (torch.from_numpy(arrays[f"{split}_{name}_labels"]) for name in ("clean", "ambiguous"))
    images = torch.cat([clean, unclear.repeat_interleave(labels.shape[1], 0)])
    return TensorDataset(images, torch.cat([clean_labels, labels.flatten()]))


def notmnist(split: str) -> Tensor:
    """The letters A to J [N, 28, 28]: a data set for `data.ood`. Raises UserError if its file is missing."""
    if not LETTERS.exists():
        raise UserError(
            f"{LETTERS}: no such file; put notMNIST's idx files there (github.com/davidflanagan/notMNIST-to-MNIST)"
        )
    return read_image_file(str(LETTERS))


HERE = "experiments/dirty_mnist.py"
PUBLISHED = {  # our own networks on these sets stand beside (google/uncertainty-baselines, baselines/mnist: deterministic)
    "fashion_mnist": "uncertainty-baselines' LeNet-5, a seventh of our parameters: accuracy 0.910, NLL 0.321. "
    "DUQ (van Amersfoort et al. 2020): AUROC of MNIST 0.955",
    "mnist": "uncertainty-baselines' LeNet-5, a seventh of our parameters: accuracy 0.991, NLL 0.037",
}


def beside(base: Config, settings: Settings, name: str) -> dict[str, dict[str, float]]:
    """Accuracy, NLL and AUROC, by each method's own score, of networks trained on a published set: {method: {score:
    value}}."""
    other = {"mnist": settings.mnist, "fashion_mnist": settings.fashion}
    source = {"source": name, "root": other.pop(name), "name": name}
    ood = [{"source": of, "root": root} for of, root in other.items()] + [{"source": f"{HERE}:notmnist"}]
    rows = [row for row in base.rows if name != "mnist" or row.title in ("MC-dropout", "softmax")]
    changes = {"name": f"{settings.name}/{name}", "data": {"train": source, "ood": ood}}
    compare.main(cli.override(replace(base, rows=rows), changes, name), overwrite=False)
    records = {title: of[0] for title, of in load(Path("results") / settings.name / name).items()}
    return {
        title: {score: record["before"][score] for score in ("accuracy", "nll")}
        | {f"AUROC {of}": scores[own_score(record)]["auroc"] for of, scores in record["ood"].items()}
        for title, record in records.items()
    }


def config_of(settings: Settings) -> Config:
    """The comparison: MC-dropout, its students, an ensemble, a network without dropout, and DDU."""
    plain = {"options": {"rate": 0.0}}
    rows = [
        {"title": "MC-dropout", "kind": "teacher", "compared_with": "mc_dropout"},
        {"title": "Dirichlet student", "of": "MC-dropout", "changes": {"student": {"method": "dirichlet"}}},
        {"title": "Gaussian student", "of": "MC-dropout", "changes": {"student": {"method": "logit_gaussian"}}},
        {
            "title": "ensemble",
            "kind": "teacher",
            "changes": {"teacher": {"method": "ensemble", "members": settings.members} | plain},
        },
        {"title": "softmax", "kind": "teacher", "changes": {"teacher": {"method": "deterministic"} | plain}},
        {
            "title": "DDU",
            "kind": "teacher",
            "changes": {
                "teacher": {
                    "method": "ddu",
                    "network": "resnet18",
                    "width": 0.5,
                    "spectral_norm": 3,
                    "conv_dropout": 0,
                    "head_dropout": 0,
                    "options": None,
                    "epochs": settings.ddu_epochs or 1,
                }  # fmt: skip
            },
        },
    ]
    changes = {
        "name": f"{settings.name}/methods",
        "seed": settings.seed,
        "data": {
            "train": {"source": f"{HERE}:dirty", "name": "dirty MNIST"},
            "ood": [{"source": "fashion_mnist", "root": settings.fashion, "name": "Fashion-MNIST"}],
            "max_ood": settings.limit or 10_000,
            "size": 28,
            "channels": 1,
            "augmentation": {"flip": False, "crop": 2},
        },
        "teacher": {
            "network": f"{HERE}:lenet",
            "options": {"rate": 0.3},
            "epochs": settings.epochs,
            "batch_size": 128,
            "lr": 0.02,
        },
        "sampling": {"passes": 16, "views": ["plain", "augmented", "mixup"]},
        "student": {"epochs": settings.student_epochs, "batch_size": 128},
        "evaluation": {"passes": 50, "bootstrap": 50},
        "rows": rows if settings.ddu_epochs else rows[:-1],
    }
    return cli.override(Config(), changes, "dirty_mnist")


def measured(base: Config, settings: Settings) -> dict[str, dict]:
    """For each method, the scores' AUROC: of unknown images against clean and ambiguous ones, and of ambiguous against
    clean ones."""
    arrays = np.load(IMAGES)
    unknown = data.load_evaluation(base.data, data.load(base.data.train, "train", base.data).classes, 0)[1].images
    images = {
        "clean": torch.from_numpy(arrays["test_clean"]),
        "ambiguous": torch.from_numpy(arrays["test_ambiguous"]),
        "unknown": unknown,
    }
    found, densities = {}, {}
    for row in base.rows:
        own = compare.config_of(row, settings.seed, base)
        compute = choose(own.device, own.dtype)
        train, _ = data.load_train(own.data, own.split_seed)
        predict = compare.subject_of(own, row.kind, teacher.load_teacher(own, compute), train, compute).predict
        said = {name: predict(of, name) for name, of in images.items()}
        scores = {name: compare.scores_of(prediction) for name, prediction in said.items()}
        right = (said["clean"].distribution.predicted.numpy() == arrays["test_clean_labels"]).mean()
        densities[row.title] = scores
        found[row.title] = {"accuracy": float(right), "unknown": {}, "ambiguous": {}}
        for score in scores["clean"]:
            clean, unclear, far = (scores[name][score] for name in SETS)
            found[row.title]["unknown"][score] = ood_detection(np.concatenate([clean, unclear]), far)["auroc"]
            found[row.title]["ambiguous"][score] = ood_detection(clean, unclear)["auroc"]
        note(f"{row.title}: measured")
    save(densities_of(densities), Path("results") / settings.name / "densities.png")
    return found


def densities_of(scores: dict[str, dict[str, dict[str, ndarray]]]) -> Figure:
    """A row for each method, a column for each score: its density on clean, ambiguous and unknown images."""
    columns = ["predictive_entropy", "expected_entropy", "mutual_information", "total_variance", "own"]
    figure = Figure(figsize=(15, 2.1 * len(scores)), layout="constrained")
    figure.suptitle("Clean, ambiguous and unknown images, by every uncertainty (density)")
    axes = figure.subplots(len(scores), len(columns), squeeze=False)
    for line, (title, by_set) in zip(axes, scores.items()):
        for axis, column in zip(line, columns):
            score = (
                next((name for name in ("negative_log_density", "energy") if name in by_set["clean"]), None)
                if column == "own"
                else column
            )
            if score not in by_set["clean"]:
                axis.axis("off")
                continue
            everything = np.concatenate([by_set[name][score] for name in SETS])
            bins = np.linspace(*np.quantile(everything, [0, 0.995]), 60)
            for name, colour in zip(SETS, (BLUE, ORANGE, GREEN)):
                axis.hist(
                    by_set[name][score].clip(bins[0], bins[-1]),
                    bins,
                    density=True,
                    histtype="step",
                    color=colour,
                    label=name,
                )
            axis.set_yscale("log")
            axis.set_title(f"{title}: {(MEASURE_NAMES | OWN)[score].split(' (')[0]}", fontsize=8)
    axes[0, 0].legend(fontsize=7)
    return figure


def examples(arrays: dict[str, ndarray]) -> Figure:
    """Ambiguous images with their labels."""
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    figure.suptitle("Ambiguous digits (made here) and the labels drawn for them")
    for axis, image, labels in zip(
        figure.subplots(2, 12).flat, arrays["train_ambiguous"], arrays["train_ambiguous_labels"]
    ):
        axis.imshow(image[..., 0], cmap="gray")
        axis.set_title(", ".join(map(str, labels)), fontsize=8)
        axis.axis("off")
    return figure


def page(record: dict) -> str:
    """The results as Markdown."""
    ran, names = record["provenance"], MEASURE_NAMES | OWN
    shown = [score for score in SCORES if any(score in found["unknown"] for found in record["methods"].values())]
    parts = [
        f"# dirty_mnist\n\nMade by `{ran['command']}` (commit {ran['commit']}; {ran['device']}), one seed. "
        "DDU's network is a ResNet-18 of half width, with spectral norm; all others are the LeNet, which has far fewer parameters."
    ]
    for kind, title in (
        ("unknown", "Unknown (Fashion-MNIST) against clean and ambiguous digits"),
        ("ambiguous", "Ambiguous against clean digits"),
    ):
        rows = [
            [
                name,
                f"{found['accuracy']:.3f}",
                *(f"{found[kind][score]:.3f}" if score in found[kind] else "-" for score in shown),
            ]
            for name, found in record["methods"].items()
        ]
        parts.append(
            f"## {title}: AUROC\n\n{markdown(['method', 'accuracy on clean digits', *(names[score] for score in shown)], rows)}"
        )
    parts.append("![Densities](densities.png)")
    for name, methods in record["published"].items():
        scores = list(next(iter(methods.values())))
        rows = [[title, *(f"{found[score]:.3f}" for score in scores)] for title, found in methods.items()]
        title = f"Trained on {name} alone: AUROC by each method's own score"
        parts.append(f"## {title}\n\n{markdown(['method', *scores], rows)}\n\nPublished: {PUBLISHED[name]}.")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    cli.guard(lambda: main(cli.read_settings(Settings, __doc__)))
