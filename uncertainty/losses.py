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
    """4 KL(teacher's mean ‖ student's mean) + Σ_m (student's m − teacher's m)² / (σ_m (σ_m / 2 + student's m)), up to constants.

    spread: σ_m of each measure m that is compared, its standard deviation over the whole data set. An estimate from few passes is the
    noisier the larger what it estimates, so squares weigh less where the student's own m, taken as a constant, is large. A weight made
    of the target, which has the same noise, would bias the student.
    """
    cross_entropy = -(targets["mean"] * student.mean.clamp_min(1e-12).log()).sum(-1)
    squares = []
    for m, sigma in spread.items():
        mine = getattr(student, m)
        squares.append((mine - targets[m]) ** 2 / (sigma * (sigma / 2 + mine.detach())))
    return (4 * cross_entropy + sum(squares)).mean()
