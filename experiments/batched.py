"""Many small perceptrons of one shape, trained and sampled at once, each on its own rows."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from training.bar import progress_bar

CHUNK = 2_000_000  # rows of all networks that are in memory at once


class Perceptrons(nn.Module):
    """B perceptrons with ReLU: x [B, N, D] → [B, N, O].

    sizes: D, hidden layers, O. rates [B]: of dropout before every layer, always on. drop_inputs: also before the first.
    """

    def __init__(self, sizes: list[int], rates: Tensor, drop_inputs: bool = False):
        super().__init__()
        self.drop_inputs, self.rates = drop_inputs, rates.view(-1, 1, 1)
        shapes = list(pairwise(sizes))  # the weights start as in Glorot & Bengio 2010, eq. 16
        self.weights = nn.ParameterList(
            torch.empty(len(rates), *shape).uniform_(-1, 1) * math.sqrt(6 / sum(shape)) for shape in shapes
        )
        self.biases = nn.ParameterList(torch.zeros(len(rates), 1, width) for width in sizes[1:])

    def forward(self, x: Tensor) -> Tensor:
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer or self.drop_inputs:
                x = self.dropped(x.relu() if layer else x, layer)
            x = torch.baddbmm(bias, x, weight)
        return x

    def dropped(self, x: Tensor, layer: int) -> Tensor:
        """x, the input of a layer, with dropout."""
        return x * (torch.rand_like(x) >= self.rates) / (1 - self.rates) if self.rates.any() else x


def moment_loss(mean: Tensor, variances: Tensor, targets: Tensor, typical: Tensor) -> Tensor:
    """A student's loss [B, N], least at its teacher's moments, for any number of passes.

    mean [B, N], variances [B, N, K]: the student's. targets [B, N, 1 + K]: the teacher's mean and variances, by some
    passes. typical [B, 1]: the variance that errors of the mean are compared with. (A Gaussian likelihood would add
    those errors to the student's variance.)
    """
    return (mean - targets[..., 0]).square() / typical + (variances.log() + targets[..., 1:] / variances).sum(-1)


def fit(
    networks: Perceptrons,
    x: Tensor,
    y: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    epochs: int,
    decay: Tensor | float = 0.0,
    falls: bool = True,
) -> None:
    """Train each network on its own rows x [B, N, D], y [B, N, O] by Adam (Keras' settings), in batches of 128.

    loss: (outputs, y) → [B, N]. decay [B]: factor of the squared weights. falls: whether the learning rate falls to 0.
    """
    optimizer = torch.optim.Adam(networks.parameters(), 1e-3, eps=1e-7)
    for epoch in progress_bar(range(epochs), desc=f"{len(x)} networks", unit="epoch", leave=False):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - epoch / epochs if falls else 1)
        for rows in torch.rand(x.shape[:2]).argsort(1).split(128, 1):
            inputs, targets = (values.take_along_dim(rows.unsqueeze(-1), 1) for values in (x, y))
            squares = sum(weight.square().sum((1, 2)) for weight in networks.weights)
            (loss(networks(inputs), targets).mean(1) + decay * squares).sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def sample(networks: Perceptrons, x: Tensor, passes: int) -> Tensor:
    """Outputs [B, N, T, O] of T passes, for x [B, N, D]; a mask for each row."""
    parts = torch.zeros(passes).split(max(1, CHUNK // x[..., 0].numel()))
    return torch.cat([networks(x.repeat(1, len(p), 1)).unflatten(1, (len(p), -1)) for p in parts], 1).movedim(1, 2)
