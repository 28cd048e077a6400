"""The loss of this project's students: it matches their measures to the teacher's.

The targets are unbiased estimates for any number of passes T ≥ 2; fewer passes only make them noisier.
"""

from collections.abc import Sequence

from torch import Tensor

from methods.interface import Matched, Targets
from uncertainty.distribution import Distribution, entropy


def moments(student: Distribution, targets: Targets, matched: Sequence[Matched], mean_weight: float) -> Tensor:
    """w KL(teacher's mean ‖ student's mean) + Σ_m (student's m − teacher's m)² / (σ_m (σ_m / 2 + student's m)), over
    the measures m in `matched`, with w = `mean_weight`. It is 0 for a student with the mean and the measures of the
    samples.

    σ_m is the standard deviation of measure m over the data set. From few passes, a large measure is estimated with
    more noise. So a square weighs less if the student's own m, taken as a constant, is large. A weight from the target
    would bias the student, as it has the same noise as the target.
    """
    cross_entropy = -(targets.mean * student.mean.clamp_min(1e-12).log()).sum(-1)
    divergence = cross_entropy - entropy(targets.mean)
    squares = []
    for name in matched:
        m, sigma = getattr(student, name), targets.deviation[name]
        squares.append((m - getattr(targets, name)) ** 2 / (sigma * (sigma / 2 + m.detach())))
    return (mean_weight * divergence + sum(squares)).mean()
