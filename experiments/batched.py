"""Many small perceptrons of one shape, trained and sampled at once, each on its own rows."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from numpy import ndarray
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


def fit_students(x: Tensor, targets: Tensor, hidden: list[int], start: float, epochs: int) -> Perceptrons:
    """Students that give their teachers' moments in one pass, learned at x [B, N, D]; `moments` are their outputs.

    targets [B, N, 1 + K]: the teachers' mean and K variances, by some passes. start: the variances begin near its
    softplus. The loss is least at the moments for any number of passes, and compares errors of the mean with the
    teacher's first variance. (A Gaussian likelihood would add those errors to the student's variance.)
    """
    typical = targets[..., 1].mean(1, keepdim=True).float()

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        variances = positive(outputs[..., 1:], start)
        errors = (outputs[..., 0] - targets[..., 0]).square() / typical
        return errors + (variances.log() + targets[..., 1:] / variances).sum(-1)

    students = Perceptrons([x.shape[2], *hidden, targets.shape[2]], torch.zeros(len(x)))
    fit(students, x, targets.float(), loss, epochs)
    return students


def positive(outputs: Tensor, start: float) -> Tensor:
    """Outputs as variances."""
    return F.softplus(outputs + start) + 1e-6


@torch.no_grad()
def moments(students: Perceptrons, x: Tensor, start: float) -> ndarray:
    """The students' mean and variances [1 + K, B, N] at x [B, N, D]."""
    outputs = students(x).double()
    return torch.cat([outputs[..., :1], positive(outputs[..., 1:], start)], -1).movedim(-1, 0).numpy()
