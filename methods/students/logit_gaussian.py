"""This project's other student: a Gaussian over the logits, with a full covariance.

Its measures have no closed form, but it can match the teacher's total variance and its mutual information at once,
which no Dirichlet can.
"""

from dataclasses import field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.schema import Count, Positive, dataclass
from methods.interface import HIDDEN, Matched, Method, Targets, low_rank
from methods.students.moments import moments
from uncertainty.gaussian import LogitGaussian


@dataclass
class GaussianStudent(Method):
    """matched: the measures that the loss matches, besides the mean. mean_weight: the weight of the mean. rank: of a
    covariance to which a diagonal is added; default: a full covariance, or 16 with more than 100 classes. hidden,
    propagation: of the perceptron (`methods.student`)."""

    matched: list[Matched] = field(default_factory=lambda: ["total_variance", "expected_entropy"])
    mean_weight: Positive = 4.0
    rank: Count | None = None
    hidden: Count = HIDDEN
    propagation: bool = False

    loss_name = "weighted KL and squares"

    def perceptron_outputs(self, classes: int) -> int:
        """A shift of the logits and a factor of their covariance."""
        rank = low_rank(self.rank, classes)
        return classes * (classes + 3) // 2 if rank is None else classes * (2 + rank)

    def distribution(self, logits: Tensor, outputs: Tensor) -> LogitGaussian:
        """N(logits + shift, L Lᵀ), L a Cholesky factor with softplus on its diagonal.

        With a rank, the covariance is U Uᵀ + diag(softplus²).
        """
        classes = logits.shape[-1]
        shift, scale, rest = outputs.tensor_split((classes, 2 * classes), 1)
        loc, scale = logits + shift, F.softplus(scale)
        if rank := low_rank(self.rank, classes):
            return LogitGaussian(loc, rest.unflatten(1, (classes, rank)), scale)
        rows, columns = torch.tril_indices(classes, classes, -1, device=logits.device)
        factor = torch.diag_embed(scale)
        factor[:, rows, columns] = rest
        return LogitGaussian(loc, factor)

    def loss(self, student: LogitGaussian, targets: Targets, network: nn.Module) -> Tensor:
        """`moments`."""
        return moments(student, targets, self.matched, self.mean_weight)
