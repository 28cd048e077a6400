"""Spectral normalization of convolutions and linear layers: a network that keeps distances (Mukhoti et al. 2021,
section 4; Gouk et al. 2018)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.hooks import hooked


class SpectralNorm(nn.Module):
    """W → W / max(1, σ(W) / coefficient). σ is the largest singular value of the layer as a linear map of inputs of one
    shape.

    A parametrization for `torch.nn.utils.parametrize`. torch's own normalizes the kernel reshaped to a matrix, whose σ
    is another one. In training each call takes one step of the power iteration, by the convolution and its transpose;
    `start` steps are taken at the beginning.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, inputs: tuple[int, ...], coefficient: float, start: int = 30):
        super().__init__()
        self.coefficient = coefficient
        names = ("stride", "padding", "groups") if isinstance(layer, nn.Conv2d) else ()
        self.settings = {name: getattr(layer, name) for name in names}
        weight = _kernel(layer.weight.detach())
        v = F.normalize(torch.randn(1, *inputs, device=weight.device).flatten(1)).view(1, *inputs)
        self.register_buffer("v", v)
        self.register_buffer("u", F.conv2d(v, weight, **self.settings))
        for _ in range(start):
            self._iterate(weight)

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            kernel = _kernel(weight)
            if self.training:
                self._iterate(kernel)
            sigma = (self.u.clone() * F.conv2d(self.v.clone(), kernel, **self.settings)).sum()
        return weight / (sigma / self.coefficient).clamp_min(1)

    @torch.no_grad()
    def _iterate(self, weight: Tensor) -> None:
        """v ← Wᵀu, u ← Wv, each of length one."""
        v = torch.nn.grad.conv2d_input(self.v.shape, weight, self.u, **self.settings)
        self.v.copy_(v / v.norm().clamp_min(1e-12))
        u = F.conv2d(self.v, weight, **self.settings)
        self.u.copy_(u / u.norm().clamp_min(1e-12))


def normalize(network: nn.Sequential, coefficient: float, blank: Tensor) -> None:
    """Keep the spectral norm of every layer but the last at or below `coefficient`, for images of the size of `blank`
    [1, H, W, C]."""
    shapes = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        shapes[layer] = (*inputs[0].shape[1:], 1, 1)[:3]  # [C, H, W], or [F, 1, 1]

    layers = [layer for layer in network[:-1].modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    training = network.training
    with torch.no_grad(), hooked(layer.register_forward_pre_hook(note) for layer in layers):
        network.eval()(blank)
    network.train(training)
    for layer, inputs in shapes.items():
        parametrize.register_parametrization(layer, "weight", SpectralNorm(layer, inputs, coefficient))


def bake(network: nn.Sequential) -> nn.Sequential:
    """The same network with its normalized weights as plain ones: nothing is left to compute in each pass."""
    for layer in network.modules():
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight")
    return network


def _kernel(weight: Tensor) -> Tensor:
    """A linear layer's matrix as a 1x1 convolution's kernel."""
    return weight if weight.ndim == 4 else weight[:, :, None, None]
