"""The methods of dirty_mnist.py: MC-dropout, its students, an ensemble, a network without dropout, and DDU."""

from collections.abc import Iterator

import data
from compare import subject_of
from configs import cli
from configs.schema import Config, Count, Seed, Several, dataclass
from experiments import common
from methods.interface import Predictor
from train_student import distil

DIGITS = "experiments/ambiguous_digits.py"
PASSES = 50
OWN_SCORES = {  # a method's score for unknown images, by its authors
    "MC-dropout": "mutual_information",
    "Dirichlet student": "total_variance",
    "Gaussian student": "mutual_information",
    "ensemble": "predictive_entropy",
    "softmax": "energy",
    "DDU": "negative_log_density",
}


@dataclass
class Settings:
    """What can be set on the command line."""

    epochs: Count = 10
    """Of the networks."""
    student_epochs: Count = 8
    ddu_epochs: Count = 3
    """Of DDU's ResNet-18."""
    members: Several = 5
    """Networks of the ensemble."""
    seed: Seed = 0


def base_config(name: str, train: str, ood: list[str], settings: Settings) -> Config:
    """The settings that all methods share, for networks that are trained on one set."""
    images = {"train": {"source": train, "name": name}, "max_ood": 10_000, "size": 28, "channels": 1}
    images |= {"ood": [{"source": source, "name": source.split(":")[-1]} for source in ood]}
    lenet = {"network": f"{DIGITS}:lenet", "options": {"rate": 0.3}, "batch_size": 128, "lr": 0.02}
    # An ambiguous image is there once for each label: with some held out, it would be in both parts.
    lenet |= {"epochs": settings.epochs, "train_on_all": True}
    changes = {
        "name": f"dirty_mnist/{name}",
        "seed": settings.seed,
        "data": images | {"augmentation": {"flip": False, "crop": 2}},
        "teacher": lenet,
        "sampling": {"passes": 16, "views": ["plain", "augmented", "mixup"]},
        "student": {"epochs": settings.student_epochs, "batch_size": 128},
        "evaluation": {"passes": PASSES, "masks": "independent"},
    }
    return cli.override(Config(), changes, "dirty_mnist")


def train_methods(base: Config, settings: Settings, only: tuple[str, ...] = ()) -> Iterator[tuple[str, Predictor]]:
    """Train each method (only those of the titles, if any are given) and give its predictor."""
    no_dropout, dropout = {"options": {"rate": 0.0}}, f"{base.name}/MC-dropout"
    resnet = {"network": "resnet18", "width": 0.5, "spectral_norm": 3, "conv_dropout": 0, "head_dropout": 0}
    changes = {
        "MC-dropout": {},
        "Dirichlet student": {"teacher_of": dropout, "student": {"method": "dirichlet"}},
        "Gaussian student": {"teacher_of": dropout, "student": {"method": "logit_gaussian"}},
        "ensemble": {"teacher": no_dropout | {"method": "ensemble", "members": settings.members}},
        "softmax": {"teacher": no_dropout | {"method": "deterministic"}},
        "DDU": {"teacher": resnet | {"method": "ddu", "options": None, "epochs": settings.ddu_epochs}},
    }
    train, _ = data.load_train(base.data, base.split_seed, base.teacher.train_on_all)
    for title in only or changes:
        config = cli.override(base, {"name": f"{base.name}/{title}".replace(" ", "-")} | changes[title], title)
        teacher, compute = common.train_teacher(config)
        if config.teacher_of:
            distil(teacher, train, config=config)
        kind = "student" if config.teacher_of else "teacher"
        yield title, subject_of(config, kind, teacher, train, compute)[0]
