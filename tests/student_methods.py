"""Student methods as the tests call them: the only place in the tests that knows how a method is asked."""

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any, get_args

import torch
from torch import Tensor, nn

from configs.schema import StudentSettings
from methods import student_method
from methods.interface import Matched, Targets
from methods.student import Student
from models.architecture import Architecture
from uncertainty.distribution import Distribution
from uncertainty.samples import Samples, statistics

TENSORS = {field.name for field in fields(Targets)} - {"deviation", "progress"}


class Method:
    """A student method with its options."""

    def __init__(self, name: str, **options: Any):
        self.method = student_method(name, options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)

    def distribution(self, logits: Tensor, outputs: Tensor | None = None) -> Distribution:
        return self.method.distribution(logits, outputs)

    def loss(
        self,
        student: Distribution,
        targets: dict[str, Tensor],
        network: nn.Module | None = None,
        progress: float = 1.0,
        deviation: float = 0.1,
    ) -> Tensor:
        """deviation: of every matched measure over the data set."""
        tensors = {name: tensor for name, tensor in targets.items() if name in TENSORS}
        deviations = dict.fromkeys(get_args(Matched), deviation)
        return self.method.loss(student, Targets(**tensors, deviation=deviations, progress=progress), network)


def targets_of(log_probs: Tensor) -> dict[str, Tensor]:
    """What a loss may ask for, of samples [N, T, C]; the labels go round."""
    labels = torch.eye(log_probs.shape[-1])[torch.arange(len(log_probs)) % log_probs.shape[-1]]
    return statistics(Samples(log_probs)) | {"log_probs": log_probs, "labels": labels}


def minimize(loss: Callable[[], Tensor], parameters: Iterable[Tensor], lr: float, steps: int = 1500) -> None:
    """By Adam, whose learning rate falls to nothing."""
    optimizer = torch.optim.Adam(parameters, lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()


def vgg5_student(method: str = "dirichlet", width: float = 0.25, **options: Any) -> Student:
    """An untrained student for four classes of images of 8 x 8 grey pixels."""
    architecture = Architecture("vgg5", width, 8, 1, 4, 0.1, 0.5, heads=Method(method, **options).heads)
    return Student(architecture, StudentSettings(method=method, options=options), list("abcd"))
