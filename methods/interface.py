"""The interface of methods.

A student method turns a network's outputs into a distribution, and compares it with the teacher's samples. A teacher
method predicts with trained networks, without a student, and can give samples to students.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from configs.schema import Evaluation
from data.dataset import Dataset
from training.compute import Compute
from uncertainty.cache import Samplers
from uncertainty.distribution import Distribution

Matched = Literal["total_variance", "expected_entropy"]
"""The measures that a loss can match besides the mean: a few passes estimate them without bias."""

HIDDEN = 512  # units in each hidden layer of a perceptron
FULL_RANK, LOW_RANK = 100, 16  # with more classes than FULL_RANK a full covariance would be most of a student


@dataclass(frozen=True)
class Targets:
    """The teacher's samples on a batch of B inputs, as a loss needs them: `uncertainty.samples.statistics` of T
    samples.

    log_probs: the samples themselves, for a method that needs them. labels: probabilities, as a view can mix two
    images. deviation: the standard deviation of each `Matched` measure over the data set. progress: the share of the
    training that is done.
    """

    mean: Tensor  # [B, C]
    mean_log_prob: Tensor  # [B, C]
    total_variance: Tensor  # [B]
    expected_entropy: Tensor  # [B]
    labels: Tensor  # [B, C]
    deviation: dict[str, float]
    progress: float = 1.0
    log_probs: Tensor | None = None  # [B, T, C]


def low_rank(rank: int | None, classes: int) -> int | None:
    """The rank of a covariance of C classes: `rank` if it is given, else full (None) up to FULL_RANK classes."""
    return rank or (LOW_RANK if classes > FULL_RANK else None)


class Method:
    """One way to distil: a subclass is a `configs.schema.dataclass`, whose fields are the method's options.

    needs_samples: whether the loss needs the samples themselves, not only their statistics. needs_labels: whether it
    needs every image's label. needs_functions: whether sample t has to be the same function of every input
    (`sampling.masks: function`). own_last_layer: whether `last_layer` gives the logits of all heads. ood_score: the
    score that the authors use for OOD inputs. loss_name: for plots.
    """

    needs_samples = False
    needs_labels = False
    needs_functions = False
    own_last_layer = False
    propagation = False  # an option of methods with a perceptron (`methods.student`)
    heads = 1  # classifiers of the network; more than one give logits [N, heads, C]
    ood_score = "mutual_information"
    loss_name = "loss"

    def perceptron_outputs(self, classes: int) -> int:
        """How many numbers for each input a perceptron on all features of the network gives; 0: there is no perceptron.

        A method with one has an option `hidden`, the units of a hidden layer.
        """
        return 0

    def last_layer(self, linear: nn.Linear) -> nn.Module:
        """The layer in the place of the network's last one, if `own_last_layer`."""
        return linear

    def distribution(self, logits: Tensor, outputs: Tensor) -> Distribution:
        """The distribution of the network's logits [N, C] and of the perceptron's outputs [N, K]."""
        raise NotImplementedError

    def loss(self, student: Distribution, targets: Targets, network: nn.Module) -> Tensor:
        """A batch's loss. network: the student's, for losses that depend on its weights."""
        raise NotImplementedError


@dataclass(frozen=True)
class Prediction:
    """A distribution over class probabilities for N images, and other scores [N]; a higher score is less sure."""

    distribution: Distribution
    scores: dict[str, Tensor] = field(default_factory=dict)


Networks = list[nn.Module]
Predictor = Callable[[Tensor, str], Prediction]
"""(uint8 images [N, H, W, C], a name for them) → the prediction. The name can be part of the seed of random numbers."""


@dataclass(frozen=True)
class TeacherMethod:
    """One way to get uncertainties from trained networks.

    predictor: (networks, training images, settings, seed, compute) → predictor; what needs fitting is fitted there.
    samplers: networks → two samplers with the interface of `uncertainty.mc_dropout.Sampler`: one for students and the
    reference's first half, one for its second half. None: the method cannot have students.
    fixed_samples: whether the samples are always the same ones, as an ensemble's are. Students then learn from the
    reference's first half, so they are compared with the second half alone.
    ood_score: the score that the authors use for OOD inputs.
    """

    predictor: Callable[[Networks, Dataset, Evaluation, int, Compute], Predictor]
    samplers: Callable[[Networks], Samplers] | None = None
    fixed_samples: bool = False
    ood_score: str = "mutual_information"
