"""What active_learning.py acquires by: scores of the pool's images, the highest of which are labelled next."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from configs import cli
from configs.schema import Config
from data.dataset import Dataset
from experiments import common
from methods.student import Student
from methods.teacher import Teacher
from methods.teachers import ddu
from models.inference import outputs_of
from plots.style import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY
from train_student import distil
from training.compute import choose
from uncertainty.distribution import entropy

COMPUTE = choose("cpu", "float32")
PASSES, FEW_PASSES = 50, 8  # of the teacher
AGAIN, DISTILLED, EPOCHS = 4, 5000, 4  # a student: distilled every so many steps, on so many images of the pool


@dataclass
class State:
    """What an acquisition may look at. step: 0, 1, ...; labelled: positions in the pool; student: of this or of an
    earlier step."""

    network: nn.Module
    pool: Dataset
    labelled: Tensor
    step: int
    seed: int
    student: Student | None = None

    @property
    def teacher(self) -> Teacher:
        """The network as a teacher, whose images are pixels in [0, 1]."""
        return Teacher.from_module(self.network, [0.0], [1.0], size=28, classes=self.pool.classes, channels=1)


def by_softmax(state: State) -> Tensor:
    """The entropy of one pass without dropout."""
    return entropy(outputs_of(state.teacher.network, state.pool, COMPUTE).softmax(-1))


def by_teacher(state: State, passes: int) -> Tensor:
    """The mutual information of passes with dropout (Houlsby et al. 2011; Gal et al. 2017)."""
    key = (state.seed, "acquisition", state.step)
    return common.sample_images(state.teacher, state.pool.images, passes, key, COMPUTE).mutual_information


def by_student(state: State, again: int) -> Tensor:
    """The mutual information of a student, distilled from the network of this step or of one less than `again` steps
    ago."""
    if state.step % again == 0:
        changes = {
            "name": "active_learning/student",
            "seed": state.seed,
            "device": "cpu",
            "dtype": "float32",
            "data": {"augmentation": {"flip": False, "crop": 2}},
            "sampling": {"passes": 16, "views": ["plain", "augmented"]},
            "student": {"method": "logit_gaussian", "epochs": EPOCHS, "batch_size": 128},
        }
        images = state.pool.subset(torch.randperm(len(state.pool))[:DISTILLED])
        config = cli.override(Config(), changes, "active_learning")
        state.student = distil(state.teacher, images, config=config, overwrite=True)
    with torch.inference_mode():
        return torch.cat([state.student(images).mutual_information for images in state.pool.images.split(1024)])


def by_density(state: State) -> Tensor:
    """−log q(z) of the last hidden layer, Gaussians of the labelled images (Mukhoti et al. 2021; here without spectral
    norm)."""
    features = outputs_of(state.teacher.network.body, state.pool, COMPUTE)
    return -ddu.log_density(ddu.fit(features[state.labelled], state.pool.labels[state.labelled]), features)


ACQUISITIONS: dict[str, tuple[Callable[[State], Tensor], str]] = {  # and their colours
    "random": (lambda state: torch.rand(len(state.pool)), GREY),
    "softmax entropy": (by_softmax, GREEN),
    "teacher (BALD)": (partial(by_teacher, passes=PASSES), BLUE),
    "teacher, few passes": (partial(by_teacher, passes=FEW_PASSES), SKY),
    "student": (partial(by_student, again=AGAIN), ORANGE),
    "student of every step": (partial(by_student, again=1), RED),
    "feature density": (by_density, PINK),
}
