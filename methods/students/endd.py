"""EnDD, ensemble distribution distillation (Malinin, Mlodozeniec & Gales 2020): a Dirichlet by maximum likelihood."""

from torch import Tensor, nn

from configs.schema import NonNegative, Positive, Rate, dataclass
from methods.interface import Method, Targets
from uncertainty.dirichlet import Dirichlet


@dataclass
class EnDD(Method):
    """temperature: T at the start; it falls linearly to 1 over the share `annealing` of the training (the authors' is
    constant at first). smoothing: γ."""

    temperature: Positive = 10.0
    annealing: Rate = 0.5
    smoothing: NonNegative = 1e-4

    needs_samples = True
    loss_name = "−log likelihood, nats"

    def distribution(self, logits: Tensor, outputs: Tensor) -> Dirichlet:
        """α = exp(z) (eq. 7), in float64, as exponentials of logits can be too large to be summed in float32."""
        return Dirichlet(logits.double().exp())

    def loss(self, student: Dirichlet, targets: Targets, network: nn.Module) -> Tensor:
        """−1/M Σ_m log Dir((1 − γ) softmax(z_m / T) + γ/C; exp(z / T)) (eq. 8; temperature, smoothing: section 4)."""
        t = 1 + (self.temperature - 1) * max(0.0, 1 - targets.progress / max(self.annealing, 1e-9))
        probs = (targets.log_probs.double() / t).softmax(-1)
        probs = (1 - self.smoothing) * probs + self.smoothing / probs.shape[-1]
        return Dirichlet(student.alpha ** (1 / t)).nll(probs.log().mean(1)).mean()
