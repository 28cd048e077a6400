"""Concrete dropout (Gal, Hron & Kendall 2017): masks that are relaxed, so that their rates can be learned."""

import math

import torch
from torch import Tensor, nn

from experiments.batched import Perceptrons

TEMPERATURE = 0.1  # of the concrete relaxation
SPEED = 10  # how much faster than the weights the logits of the rates learn; with 1 they end where the training ends


def concrete(x: Tensor, logit: Tensor) -> Tensor:
    """x with dropout of the rate sigmoid(logit), relaxed so that it has a gradient (Gal et al. 2017, eq. 5)."""
    u = torch.rand_like(x).clamp(1e-6, 1 - 1e-6)
    dropped = torch.sigmoid((logit + torch.logit(u)) / TEMPERATURE)
    return x * (1 - dropped) / (1 - torch.sigmoid(logit))


def negative_entropy(logit: Tensor) -> Tensor:
    """−H(p) of a rate p = sigmoid(logit), in nats: times the number of units and over N, it is a layer's part of the
    loss (eq. 3)."""
    return -torch.distributions.Bernoulli(logits=logit).entropy()


class ConcretePerceptrons(Perceptrons):
    """Perceptrons that learn a rate for each layer but the first."""

    def __init__(self, sizes: list[int], count: int):
        super().__init__(sizes, torch.zeros(count))
        self.slow = nn.Parameter(torch.full((len(sizes) - 1, count, 1, 1), math.log(0.1 / 0.9) / SPEED))

    @property
    def logits(self) -> Tensor:
        return SPEED * self.slow

    def dropped(self, x: Tensor, layer: int) -> Tensor:
        return concrete(x, self.logits[layer])

    def regularizer(self, count: int, lengthscale: float) -> Tensor:
        """The weights' and the rates' part of the loss of `count` points [B] (eq. 3)."""
        total = torch.zeros(len(self.rates))
        for layer, weight in enumerate(self.weights):
            logit = self.logits[layer].flatten()
            kept = 1 - torch.sigmoid(logit) if layer else 1
            total = total + lengthscale**2 * weight.square().sum((1, 2)) / (2 * kept * count)
            total = total + (weight.shape[1] * negative_entropy(logit) / count if layer else 0)
        return total


class ConcreteDropout(nn.Module):
    """Dropout in a network's layers, of a rate that is learned; always on."""

    def __init__(self, rate: float):
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(math.log(rate / (1 - rate))))
        self.units = 0

    def forward(self, x: Tensor) -> Tensor:
        self.units = x.shape[1]  # channels: the authors' number of units of a map
        return concrete(x.float(), self.logit).to(x.dtype)
