"""What a method is. A student's: a head, from what its network gives to a distribution, and a loss, of the distribution against the
teacher's samples. A teacher's: what trained networks say of images, without a student, and, if it can have students, how it is sampled."""

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
"""What a loss compares with, for a batch of B inputs: the statistics of the teacher's samples (`uncertainty.samples.statistics`), for
methods that need them the samples, `log_probs` [B, T, C], and `labels` [B, C], as probabilities, since a view can mix two images."""

Matched = Literal["total_variance", "expected_entropy"]
"""What a loss can compare beside the mean: the measures of the samples that a few passes estimate without bias."""

HIDDEN = 512  # units in each hidden layer of a perceptron

Head = Callable[[Tensor, Tensor, Any], Distribution]


@dataclass(frozen=True)
class Context:
    """What a loss may need beside its batch.

    spread: the standard deviation of each measure that can be matched, over the whole data set. progress: the share of the training that
    is done. options: the method's own. network: the student's, for losses of its weights.
    """

    spread: dict[str, float]
    progress: float = 1.0
    options: Any = None
    network: nn.Module | None = None


@dataclass(frozen=True)
class Prediction:
    """What a method says of N images: a distribution over class probabilities, and other scores [N], higher where it is less sure."""

    distribution: Distribution
    scores: dict[str, Tensor] = field(default_factory=dict)


Networks = list[nn.Module]
Predictor = Callable[[Tensor, str], Prediction]
"""(uint8 images [N, H, W, C], a name of them) → what the method says of them; what is random is drawn anew for each name."""


@dataclass(frozen=True)
class TeacherMethod:
    """One way to get uncertainties from trained networks.

    predictor: (networks, training images, config, compute) → predictor; what has to be fitted is fitted there.
    samplers: networks → what gives their samples, as `uncertainty.mc_dropout.Sampler` does: to students and to the reference's first half,
    and to its second half; None: no student can be made of it.
    one_way: the reference's first half is what students are made of, so they are compared with the second alone.
    """

    predictor: Callable[[Networks, Dataset, Config, Compute], Predictor]
    samplers: Callable[[Networks], tuple[Sampling, Sampling]] | None = None
    one_way: bool = False


@dataclass(frozen=True)
class NoOptions:
    """The options of a method that has none."""


@dataclass(frozen=True)
class StudentMethod:
    """One way to distil.

    head: (logits [N, C], head parameters [N, K], options) → distribution.
    loss: (distribution, targets, context) → a batch's loss.
    loss_name: of options, what the loss is, in a few words, for plots.
    head_parameters: how many the head takes for C classes; a perceptron on all features of the network gives them; 0: no perceptron.
    options: a dataclass of the method's own settings; with a perceptron `hidden`, its units, is one.
    heads: how many classifiers the network has; more than one give logits [N, heads, C].
    needs_samples: whether the loss sees the samples themselves, not their statistics alone.
    shared_masks: whether sample t has to be the same function of every input (`sampling.masks: function`).
    """

    head: Head
    loss: Callable[[Distribution, Targets, Context], Tensor]
    loss_name: Callable[[Any], str] = lambda options: "loss"
    head_parameters: Callable[[int, Any], int] = lambda classes, options: 0
    options: type = NoOptions
    heads: Callable[[Any], int] = lambda options: 1
    needs_samples: bool = False
    shared_masks: bool = False

    def check(self, config: Config) -> None:
        """Raise UserError for settings that the method does not have or would ignore, or samples that it cannot use."""
        options = self.read_options(config.student)
        if not self.head_parameters(2, options):
            for name in ("hidden", "propagation"):
                if getattr(options, name, None) != getattr(self.options(), name, None):
                    raise UserError(f"student.options: {name}: there is no perceptron here, so it would be ignored")
        if self.shared_masks and config.sampling.masks != "function":
            raise UserError(f"student.method: {config.student.method} imitates functions of the teacher: set sampling.masks: function")

    def read_options(self, settings: Student) -> Any:
        """`student.options` as the method's dataclass. Raises UserError for a name or a value that it does not have."""
        return cli.read(self.options, settings.options or {}, f"student.options of {settings.method}")
