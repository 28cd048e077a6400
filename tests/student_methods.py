"""Student methods as the tests call them: the only place in the tests that knows how a method is asked."""

from typing import Any, get_args

import torch
from torch import Tensor, nn

from configs.schema import StudentSettings
from methods import student_method
from methods.interface import Context, Matched
from methods.student import Student
from models.architecture import Architecture
from uncertainty.distribution import Distribution
from uncertainty.samples import statistics


class Method:
    """A student method with its options."""

    def __init__(self, name: str, **options: Any):
        self.method = student_method(name)
        self.options = self.method.read_options(Settings(method=name, options=options))
        self.heads = self.method.heads(self.options)

    def outputs(self, classes: int) -> int:
        """How many numbers the perceptron gives beside the logits."""
        return self.method.head_parameters(classes, self.options)

    def last_layer(self, linear: nn.Linear) -> nn.Module:
        return self.method.last_layer(linear, self.options)

    def distribution(self, logits: Tensor, outputs: Tensor | None = None) -> Distribution:
        return self.method.head(logits, outputs, self.options)

    def loss(
        self,
        student: Distribution,
        targets: dict[str, Tensor],
        network: nn.Module | None = None,
        progress: float = 1.0,
        deviation: float = 0.1,
    ) -> Tensor:
        """deviation: of every matched measure over the data set."""
        context = Context(dict.fromkeys(get_args(Matched), deviation), progress, self.options, network)
        return self.method.loss(student, targets, context)


def targets_of(log_probs: Tensor) -> dict[str, Tensor]:
    """What a loss may ask for, of samples [N, T, C]; the labels go round."""
    labels = torch.eye(log_probs.shape[-1])[torch.arange(len(log_probs)) % log_probs.shape[-1]]
    return statistics(log_probs) | {"log_probs": log_probs, "labels": labels}


def vgg5_student(method: str = "dirichlet", width: float = 0.25, **options: Any) -> Student:
    """An untrained student for four classes of images of 8 x 8 grey pixels."""
    architecture = Architecture("vgg5", width, 8, 1, 4, 0.1, 0.5, heads=Method(method, **options).heads)
    return Student(architecture, Settings(method=method, options=options), list("abcd"))
