"""The loss of this project's students: it matches their measures to the teacher's.

The targets are unbiased estimates for any number of passes T ≥ 2; fewer passes only make them noisier.
"""

from torch import Tensor

from methods.interface import Context, Targets
from uncertainty.distribution import Distribution, entropy


def moments(student: Distribution, targets: Targets, context: Context) -> Tensor:
    """w KL(teacher's mean ‖ student's mean) + Σ_m (student's m − teacher's m)² / (σ_m (σ_m / 2 + student's m)), over
    the measures m in `options.matched`, with w = `options.mean_weight`. It is 0 for a student with the mean and the
    measures of the samples.

    σ_m is the spread of measure m. From few passes, a large measure is estimated with more noise. So a square weighs
    less if the student's own m, taken as a constant, is large. A weight from the target would bias the student, as it
    has the same noise as the target.
    """
    cross_entropy = -(targets["mean"] * student.mean.clamp_min(1e-12).log()).sum(-1)
    divergence = cross_entropy - entropy(targets["mean"])
    squares = []
    for m in context.options.matched:
        mine, sigma = getattr(student, m), context.spread[m]
        squares.append((mine - targets[m]) ** 2 / (sigma * (sigma / 2 + mine.detach())))
    return (context.options.mean_weight * divergence + sum(squares)).mean()
