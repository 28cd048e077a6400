"""The interface of methods. A student method has a head, which turns the network's outputs into a distribution, and a
loss, which compares it with the teacher's samples. A teacher method predicts with trained networks, without a student,
and can give samples to students."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from configs.schema import Config, Student
from data.dataset import Dataset
from training import cli
from training.compute import Compute
from training.errors import UserError
from uncertainty.cache import Sampling
from uncertainty.distribution import Distribution

Targets = dict[str, Tensor]
"""The targets of a loss, for a batch of B inputs: the statistics of the teacher's samples
(`uncertainty.samples.statistics`); for methods that need them, the samples `log_probs` [B, T, C]; and `labels` [B, C],
as probabilities, since a view can mix two images."""

Matched = Literal["total_variance", "expected_entropy"]
"""The measures that a loss can match besides the mean: a few passes estimate them without bias."""

HIDDEN = 512  # units in each hidden layer of a perceptron

Head = Callable[[Tensor, Tensor, Any], Distribution]


@dataclass(frozen=True)
class Context:
    """What a loss may need besides its batch.

    spread: the standard deviation of each measure that can be matched, over the whole data set. progress: the share of
    the training that is done. options: the method's own. network: the student's, for losses that depend on its weights.
    """

    spread: dict[str, float]
    progress: float = 1.0
    options: Any = None
    network: nn.Module | None = None


@dataclass(frozen=True)
class Prediction:
    """A method's prediction for N images: a distribution over class probabilities, and other scores [N]; a higher score
    is less sure."""

    distribution: Distribution
    scores: dict[str, Tensor] = field(default_factory=dict)


Networks = list[nn.Module]
Predictor = Callable[[Tensor, str], Prediction]
"""(uint8 images [N, H, W, C], a name for them) → the method's prediction. The name can be part of the seed of its
random numbers."""


@dataclass(frozen=True)
class TeacherMethod:
    """One way to get uncertainties from trained networks.

    predictor: (networks, training images, config, compute) → predictor; anything that needs fitting is fitted there.
    samplers: networks → two samplers with the interface of `uncertainty.mc_dropout.Sampler`: one for students and the
    reference's first half, one for its second half. None: the method cannot have students. one_way: students learn from
    the reference's first half, so they are compared with the second half alone. ood_score: the score that the authors
    use for OOD inputs.
    """

    predictor: Callable[[Networks, Dataset, Config, Compute], Predictor]
    samplers: Callable[[Networks], tuple[Sampling, Sampling]] | None = None
    one_way: bool = False
    ood_score: str = "mutual_information"


@dataclass(frozen=True)
class NoOptions:
    """The options of a method that has none."""


@dataclass(frozen=True)
class StudentMethod:
    """One way to distil.

    head: (logits [N, C], head parameters [N, K], options) → distribution. loss: (distribution, targets, context) → a
    batch's loss. loss_name: options → a short name of the loss, for plots. head_parameters: (C, options) → K, their
    number; a perceptron on all features of the network gives them. 0: no perceptron. options: a dataclass of the
    method's own settings. A method with a perceptron has `hidden`, the units of a hidden layer. heads: options → the
    number of classifiers of the network; more than one give logits [N, heads, C]. last_layer: (the network's last
    layer, options) → another one in its place, which gives the logits [N, heads, C] itself. needs_samples: whether the
    loss needs the samples themselves, not only their statistics. shared_masks: whether sample t has to be the same
    function of every input (`sampling.masks: function`). ood_score: the score that the authors use for OOD inputs.
    """

    head: Head
    loss: Callable[[Distribution, Targets, Context], Tensor]
    loss_name: Callable[[Any], str] = lambda options: "loss"
    head_parameters: Callable[[int, Any], int] = lambda classes, options: 0
    options: type = NoOptions
    heads: Callable[[Any], int] = lambda options: 1
    last_layer: Callable[[nn.Linear, Any], nn.Module] | None = None
    needs_samples: bool = False
    shared_masks: bool = False
    ood_score: str = "mutual_information"

    def check(self, config: Config) -> None:
        """Raise UserError for settings that the method does not have or would ignore, or samples that it cannot use."""
        options = self.read_options(config.student)
        if not self.head_parameters(2, options):
            for name in ("hidden", "propagation"):
                if getattr(options, name, None) != getattr(self.options(), name, None):
                    raise UserError(f"student.options: {name}: the head has no perceptron, so it would be ignored")
        if self.shared_masks and config.sampling.masks != "function":
            raise UserError(
                f"student.method: {config.student.method} imitates functions of the teacher: set sampling.masks: function"
            )

    def read_options(self, settings: Student) -> Any:
        """`student.options` as the method's dataclass. Raises UserError for an unknown name or a wrong value."""
        return cli.read(self.options, settings.options or {}, f"student.options of {settings.method}")
