"""EnDD, ensemble distribution distillation (Malinin, Mlodozeniec & Gales 2020): a Dirichlet by maximum likelihood, with
annealing."""

from dataclasses import dataclass

from torch import Tensor

from configs.schema import NonNegative, Positive, Rate
from methods.interface import Context, StudentMethod, Targets
from uncertainty.dirichlet import Dirichlet


@dataclass(frozen=True)
class Options:
    """temperature: T at the start; it falls linearly to 1 over the share `annealing` of the training. smoothing: γ."""

    temperature: Positive = 10.0
    annealing: Rate = 0.5
    smoothing: NonNegative = 1e-4

    def temperature_at(self, progress: float) -> float:
        """T when the share `progress` of the training is done."""
        return 1 + (self.temperature - 1) * max(0.0, 1 - progress / max(self.annealing, 1e-9))


def head(logits: Tensor, head_parameters: Tensor, options: Options) -> Dirichlet:
    """α = exp(z) (eq. 7), in float64, as exponentials of logits can be too large to be summed in float32."""
    return Dirichlet(logits.double().exp())


def loss(student: Dirichlet, targets: Targets, context: Context) -> Tensor:
    """−1/M Σ_m log Dir((1 − γ) softmax(z_m / T) + γ/C; exp(z / T)) (eq. 8, with temperature and smoothing of section
    4)."""
    options = context.options
    t = options.temperature_at(context.progress)
    probs = (targets["log_probs"].double() / t).softmax(-1)
    probs = (1 - options.smoothing) * probs + options.smoothing / probs.shape[-1]
    return Dirichlet(student.alpha ** (1 / t)).nll(probs.log().mean(1)).mean()


METHOD = StudentMethod(head, loss, lambda options: "−log likelihood, nats", options=Options, needs_samples=True)
