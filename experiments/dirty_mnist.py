"""Ambiguous and unknown images (Mukhoti et al. 2021, figures 1 and 2): which uncertainty tells which of them apart, and
does a student's split into aleatoric and epistemic survive?

    python -m experiments.dirty_mnist          # an hour and a half on one CPU core

Networks are trained on MNIST and ambiguous digits together; Fashion-MNIST is unknown to them. The same networks on
Fashion-MNIST, and on MNIST, are set beside published figures. Takes MNIST and Fashion-MNIST from datasets/, or
downloads them, and notMNIST from datasets/notmnist/. Writes results/dirty_mnist/; networks are in runs/dirty_mnist/.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray
from torch import Tensor
from torchvision.datasets.mnist import read_image_file

import data
from configs.errors import UserError
from experiments import ambiguous_digits, common
from experiments.digit_methods import DIGITS, OWN_SCORES, Settings, base_config, train_methods
from methods.evaluation import scores_of
from methods.interface import Prediction
from plots.style import BLUE, GREEN, MEASURE_NAMES, ORANGE, panels, passes, save
from uncertainty.classification import classification, ood_detection
from uncertainty.equivalent_passes import equivalent_passes

LETTERS = Path("datasets/notmnist/t10k-images-idx3-ubyte")
HERE = "experiments/dirty_mnist.py"
COLOURS = {"clean": BLUE, "ambiguous": ORANGE, "unknown": GREEN}
PARTS = ("expected_entropy", "mutual_information")
OWN = "own"  # a score that is in no other column
COLUMNS = ("predictive_entropy", *PARTS, OWN)
SCORES = MEASURE_NAMES | {
    "energy": "energy",
    "negative_log_density": "feature density",
    "max_probability": "max. prob.",
}
PUBLISHED = {  # google/uncertainty-baselines, baselines/mnist: deterministic
    "fashion_mnist": "uncertainty-baselines' LeNet-5, a seventh of our parameters: accuracy 0.910, NLL 0.321. "
    "DUQ (van Amersfoort et al. 2020): AUROC of MNIST 0.955",
    "mnist": "uncertainty-baselines' LeNet-5, a seventh of our parameters: accuracy 0.991, NLL 0.037",
}


def notmnist(split: str) -> Tensor:
    """The letters A to J [N, 28, 28]: a data set for `data.ood`. Raises UserError if its file is missing."""
    if not LETTERS.exists():
        raise UserError(f"{LETTERS}: no such file; take notMNIST from github.com/davidflanagan/notMNIST-to-MNIST")
    return read_image_file(str(LETTERS))


def aurocs(inside: dict[str, ndarray], outside: dict[str, ndarray]) -> dict[str, float]:
    """How well each score tells `outside` from `inside`."""
    return {score: ood_detection(inside[score], outside[score])["auroc"] for score in inside}


def measure_split(settings: Settings) -> dict[str, dict]:
    """For each method: AUROC of unknown images against clean and ambiguous ones, and of ambiguous against clean ones.
    For students: how many passes of the teacher their two parts are worth."""
    base = base_config("methods", f"{DIGITS}:dirty", ["fashion_mnist"], settings)
    digits, unknown = data.load_evaluation(base.data, list("0123456789"), base.split_seed)
    sets = {"digits": digits.images, "unknown": unknown.images}  # the clean digits come first
    clean = len(np.load(ambiguous_digits.IMAGES)["test_clean"])
    record, shown, halves = {}, {}, {}
    for title, predict in train_methods(base, settings):
        predictions = {name: predict(images, name) for name, images in sets.items()}
        known, other = scores = [scores_of(prediction) for prediction in predictions.values()]
        places = slice(clean), slice(clean, None)
        parts = [{score: values[place] for score, values in known.items()} for place in places]
        shown[title] = *parts, other
        record[title] = {
            "accuracy": (predictions["digits"].distribution.predicted == digits.labels)[:clean].double().mean().item(),
            "unknown": aurocs(known, other),
            "ambiguous": aurocs(*parts),
        }
        if title == "MC-dropout":  # two more times: the reference of the students
            halves = {name: [predict(images, f"{name}, half {i}") for i in (0, 1)] for name, images in sets.items()}
        if "student" in title:
            record[title]["agreement"] = {
                name: {score: agreement(of[score], halves[name], score) for score in PARTS}
                for name, of in zip(sets, scores, strict=True)
            }
    save(plot_densities(shown), Path("results/dirty_mnist/densities.png"))
    return record


def agreement(values: ndarray, halves: list[Prediction], score: str) -> dict:
    """A student's equivalent passes."""
    probs = [half.distribution.probs.numpy() for half in halves]
    return equivalent_passes(values, *probs, np.arange(len(values)), score, 50)


def measure_published(name: str, settings: Settings) -> dict[str, dict[str, float]]:
    """Accuracy, NLL and AUROC, by each method's own score, of networks that are trained on a published set."""
    others = [other for other in ("mnist", "fashion_mnist") if other != name]
    base = base_config(name, name, [*others, f"{HERE}:notmnist"], settings)
    classes = data.load(base.data.train, "test", base.data).classes
    inside, *outside = data.load_evaluation(base.data, classes, base.split_seed)
    record = {}
    for title, predict in train_methods(base, settings, ("MC-dropout", "softmax") if name == "mnist" else ()):
        prediction = predict(inside.images, inside.name)
        quality = classification(prediction.distribution.mean.double().numpy(), inside.labels.numpy())
        record[title] = {score: quality[score] for score in ("accuracy", "nll")}
        for unknown in outside:
            scores = aurocs(scores_of(prediction), scores_of(predict(unknown.images, unknown.name)))
            record[title][f"AUROC {unknown.name}"] = scores[OWN_SCORES[title]]
    return record


def main(settings: Settings) -> None:
    """Make the images, train all methods, and measure what their scores tell apart."""
    notmnist("test")  # if it is missing, this stops the run here, not after training
    *_, arrays = ambiguous_digits.load_digits()
    save(plot_examples(arrays), Path("results/dirty_mnist/images.png"))
    record = common.provenance(settings) | {"methods": measure_split(settings)}
    record["published"] = {name: measure_published(name, settings) for name in PUBLISHED}
    common.write("dirty_mnist", record, tables)


def plot_examples(arrays: dict[str, ndarray]) -> Figure:
    """Ambiguous digits of the training set, and the labels that were drawn for them."""
    figure, axes = panels("Ambiguous digits (made here) and the labels drawn for them", range(2), range(12), 1)
    shown = arrays["train_ambiguous"], arrays["train_ambiguous_labels"]
    for axis, image, labels in zip(axes.values(), *shown, strict=False):
        axis.imshow(image, cmap="gray")
        axis.set_title(", ".join(map(str, labels)), fontsize=8)
        axis.axis("off")
    return figure


def plot_densities(scores: dict[str, tuple[dict[str, ndarray], ...]]) -> Figure:
    """A row for each method, a column for each score: its density on clean, ambiguous and unknown images."""
    figure, axes = panels("Clean, ambiguous and unknown images, by every uncertainty (density)", scores, COLUMNS)
    for (method, column), axis in axes.items():
        sets, score = scores[method], OWN_SCORES[method] if column == OWN else column
        if score not in sets[0] or (column == OWN and score in COLUMNS):
            axis.axis("off")
            continue
        bins = np.linspace(*np.quantile(np.concatenate([values[score] for values in sets]), [0, 0.995]), 60)
        for values, (name, colour) in zip(sets, COLOURS.items(), strict=True):
            clipped = values[score].clip(bins[0], bins[-1])
            axis.hist(clipped, bins, density=True, histtype="step", color=colour, label=name)
        axis.set(title=SCORES[score], yscale="log")
        if column == COLUMNS[0]:
            axis.set_ylabel(method)
    figure.axes[0].legend()
    return figure


def tables(record: dict) -> common.Tables:
    """AUROCs of every score, the students' equivalent passes, and the published sets."""
    methods, parts = record["methods"], {}
    for kind, of in (("unknown", "all"), ("ambiguous", "clean")):
        parts[f"AUROC of {kind} images against {of} digits; accuracy on clean digits"] = {
            title: {"accuracy": entry["accuracy"]} | {label: entry[kind].get(score) for score, label in SCORES.items()}
            for title, entry in methods.items()
        }
    agreements = {
        f"{title}, {name}": {SCORES[score]: passes(entry) for score, entry in entries.items()}
        for title, method in methods.items()
        for name, entries in method.get("agreement", {}).items()
    }
    parts |= {"The students' equivalent passes": agreements} if agreements else {}
    for name, rows in record["published"].items():
        parts[f"Trained on {name}; AUROC by each method's own score. Published: {PUBLISHED[name]}. Ours"] = rows
    return parts


if __name__ == "__main__":
    common.start(main, Settings, __doc__)
