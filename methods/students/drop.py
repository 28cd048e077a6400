"""The "Drop" of Hydra+'s authors (Ferianc & Rodrigues 2022): a network whose last layer has dropout, in use too."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.schema import NonNegative, Positive, Rate, Several
from methods.interface import Context, StudentMethod, Targets
from methods.students.hydra import head
from methods.students.hydra_plus import correctness, individuality
from uncertainty.samples import Samples


@dataclass(frozen=True)
class Options:
    """rate: of the dropout. draws: the masks that a prediction takes, the same ones for every image.

    correctness, individuality, temperature: weights and temperature of the loss; the authors' for CIFAR-10.
    """

    rate: Rate = 0.5
    draws: Several = 50
    correctness: NonNegative = 0.05
    individuality: NonNegative = 0.95
    temperature: Positive = 8.0


class DropLinear(nn.Linear):
    """Dropout, then a linear layer: [N, F] → [N, 1, G] in training, with a mask for each input; else [N, M, G], with
    the same M masks."""

    def __init__(self, linear: nn.Linear, rate: float, draws: int):
        super().__init__(linear.in_features, linear.out_features)
        self.rate = rate
        self.register_buffer("masks", F.dropout(torch.ones(draws, linear.in_features), rate))

    def forward(self, x: Tensor) -> Tensor:
        masked = F.dropout(x, self.rate).unsqueeze(1) if self.training else x.unsqueeze(1) * self.masks
        return super().forward(masked)


def loss(student: Samples, targets: Targets, context: Context) -> Tensor:
    """(1 − α) CE(labels; q) + α T² 1/M Σ_m KL(p_m ‖ q), both softened by T in the second part; q is one random sample
    (authors' code)."""
    o, drawn = context.options, student.log_probs
    return o.correctness * correctness(drawn, targets["labels"]) + o.individuality * individuality(
        drawn, targets["log_probs"].float(), o.temperature
    )


METHOD = StudentMethod(
    head,
    loss,
    options=Options,
    heads=lambda options: options.draws,
    last_layer=lambda linear, options: DropLinear(linear, options.rate, options.draws),
    needs_samples=True,
)
