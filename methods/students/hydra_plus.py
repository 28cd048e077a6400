"""Hydra+ (Ferianc & Rodrigues 2022): Hydra with any number of heads, and four losses instead of one."""

import math

import torch
from torch import Tensor, nn

from configs.schema import Count, NonNegative, Positive, dataclass
from methods.interface import Targets
from methods.students.hydra import HeadsAsSamples, divergence
from models.architecture import HeadsLinear
from uncertainty.samples import Samples


def correctness(student: Tensor, labels: Tensor) -> Tensor:
    """L1: the heads' mean cross-entropy with the labels [B, C]."""
    return -(labels.unsqueeze(1) * student).sum(-1).mean()


def aggregation(student: Tensor, teacher: Tensor) -> Tensor:
    """L2: KL of the teacher's mean to the heads' mean."""
    log_means = [x.logsumexp(1) - math.log(x.shape[1]) for x in (teacher, student)]
    return divergence(*log_means).mean()


def individuality(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """L3: T² KL of teacher's function i mod M to head i mod S, both softened by T, for i < max(S, M)."""
    s, m = student.shape[1], teacher.shape[1]
    i = torch.arange(max(s, m), device=student.device)
    soft = [(x[:, i % count] / temperature).log_softmax(-1) for x, count in ((teacher, m), (student, s))]
    return temperature**2 * divergence(*soft).mean()


def diversity(weights: Tensor) -> Tensor:
    """L4: the mean cosine similarity between the weights of two heads, weights [S, K]."""
    unit = torch.nn.functional.normalize(weights, dim=1)
    s = len(unit)
    return ((unit @ unit.T).sum() - s) / max(1, s * (s - 1))


def weights(network: nn.Module) -> Tensor:
    """All weights of each head [S, K]."""
    return torch.cat([layer.weight.flatten(1) for layer in network.modules() if isinstance(layer, HeadsLinear)], 1)


@dataclass
class HydraPlus(HeadsAsSamples):
    """heads: their number S, which can differ from the number M of the teacher's functions.

    correctness, aggregation, individuality, diversity: the weights of L1 to L4; 0 leaves one out. temperature: of
    individuality. The first three and the temperature are the authors' for CIFAR-10. The authors' code takes diversity
    row by row against the heads' mean, with a weight that grows in training.
    """

    heads: Count = 5
    correctness: NonNegative = 0.05
    aggregation: NonNegative = 0.475
    individuality: NonNegative = 0.475
    diversity: NonNegative = 0.1
    temperature: Positive = 8.0

    needs_functions = True

    @property
    def needs_labels(self) -> bool:
        """For the correctness."""
        return self.correctness > 0

    def loss(self, student: Samples, targets: Targets, network: nn.Module) -> Tensor:
        """λ₁ L1 + λ₂ L2 + λ₃ L3 + λ₄ L4."""
        heads, teacher = student.log_probs, targets.log_probs.float()
        return (
            self.correctness * correctness(heads, targets.labels)
            + self.aggregation * aggregation(heads, teacher)
            + self.individuality * individuality(heads, teacher, self.temperature)
            + self.diversity * diversity(weights(network))
        )
