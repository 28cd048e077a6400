"""What a student is trained by: functions (student's distribution, targets, spread) → a batch's loss.

Targets are the statistics (`samples.statistics`) of the teacher's samples; they estimate what they stand for without bias for
any number of passes T ≥ 2, so few passes on many views are as good as many on few.
"""

from torch import Tensor

from uncertainty.dirichlet import Dirichlet
from uncertainty.distribution import Distribution

Targets = dict[str, Tensor]


def likelihood(student: Dirichlet, targets: Targets, spread: dict[str, float]) -> Tensor:
    """Mean negative log-likelihood of the samples under the student's Dirichlet (Malinin et al. 2020, eq. 8)."""
    return student.nll(targets["mean_log_prob"]).mean()


def moments(student: Distribution, targets: Targets, spread: dict[str, float]) -> Tensor:
    """KL(teacher's mean ‖ student's mean) + Σ_m (student's m − teacher's m)² / spread_m², up to constants, for m in `spread`.

    spread: the standard deviation of m over the whole data set.
    """
    cross_entropy = -(targets["mean"] * student.mean.clamp_min(1e-12).log()).sum(-1)
    squares = [((getattr(student, m) - targets[m]) / std) ** 2 for m, std in spread.items()]
    return (cross_entropy + sum(squares)).mean()
