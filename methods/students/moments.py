"""The loss of this project's students: their measures are to be the teacher's.

The targets estimate what they stand for without bias for any number of passes T ≥ 2; few passes only make them noisier.
"""

from torch import Tensor

from methods.interface import Context, Targets
from uncertainty.distribution import Distribution, entropy


def moments(student: Distribution, targets: Targets, context: Context) -> Tensor:
    """w KL(teacher's mean ‖ student's mean) + Σ_m (student's m − teacher's m)² / (σ_m (σ_m / 2 + student's m)), over the measures m in
    `options.matched`, w being `options.mean_weight`; 0 for a student that says what the samples say.

    σ_m is the spread of measure m. An estimate from few passes is the noisier the larger what it estimates, so squares weigh less where the
    student's own m, taken as a constant, is large. A weight made of the target, which has the same noise, would bias the student.
    """
    cross_entropy = -(targets["mean"] * student.mean.clamp_min(1e-12).log()).sum(-1)
    divergence = cross_entropy - entropy(targets["mean"])
    squares = []
    for m in context.options.matched:
        mine, sigma = getattr(student, m), context.spread[m]
        squares.append((mine - targets[m]) ** 2 / (sigma * (sigma / 2 + mine.detach())))
    return (context.options.mean_weight * divergence + sum(squares)).mean()
