"""Networks for inference only: the same function in eval mode, with less to compute."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from configs.errors import UserError
from models.external import External


def comparable(x: Tensor) -> Tensor:
    """Bfloat16 numbers viewed as int16: the order is the same except among negative numbers, and comparing is several
    times as fast.

    Only in inference mode, as integers have no gradient, and not in compiled code, where numbers are as fast. A NaN
    with a sign bit, such as ∞ − ∞, counts as negative; therefore `folded` requires finite weights.
    """
    fast = not torch.compiler.is_compiling() and torch.is_inference_mode_enabled() and x.dtype == torch.bfloat16
    return x.view(torch.int16) if fast else x


class InplaceReLU(nn.Module):
    """ReLU in place, on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        F.relu_(comparable(x))
        return x


class MaxPool2x2(nn.Module):
    """2x2 max pooling on a CPU, of inputs ≥ 0 or before a ReLU: where all four are negative, it may give another one of
    them. Unlike torch's, it does not find the indices of the maxima."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
        if not height or not width:
            raise ValueError(f"no 2x2 pooling of {x.shape[2]}x{x.shape[3]}: the images are too small for the network")
        values = comparable(x)[:, :, :height, :width]
        values = torch.maximum(values[..., ::2], values[..., 1::2])
        values = torch.maximum(values[:, :, ::2], values[:, :, 1::2])
        return values if values.dtype == x.dtype else values.view(x.dtype)  # a view as a type never has a gradient


def halves(layer: nn.Module) -> bool:
    """Whether `layer` is 2x2 max pooling without overlap or padding."""
    return type(layer) is nn.MaxPool2d and repr(layer) == repr(nn.MaxPool2d(2))


def norm_behind(layers: nn.Sequential, i: int) -> int | None:
    """The place of the batch norm that can be folded into the i-th layer, a convolution: the next one, or the one
    behind 2x2 max pooling, with which a batch norm commutes if all of its scales are positive."""
    pooled = i + 2 < len(layers) and halves(layers[i + 1])
    place = i + 1 + pooled
    if place == len(layers) or not isinstance(layers[i], nn.Conv2d):
        return None
    norm = layers[place]
    if not isinstance(norm, nn.BatchNorm2d) or pooled and not (norm.affine and bool((norm.weight > 0).all())):
        return None
    return place


def starts_with_relu(layers: list[nn.Module]) -> bool:
    """Whether the first layer that is not an identity is torch's ReLU, in place."""
    layer = next((layer for layer in layers if not isinstance(layer, nn.Identity)), None)
    return type(layer) is nn.ReLU and layer.inplace


def folded(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A copy of a network in eval mode, in which every `nn.Sequential` has its batch norms folded into the convolutions
    before them.

    Identities replace the batch norms. dtype: of the autocast that it will run in; weights are cast to it once, not in
    every pass. An external network is copied without changes, because its own code calls its layers. Raises
    UserError for weights that are not finite.
    """
    network = copy.deepcopy(network)
    if isinstance(network, External):
        return finite(network)
    on_cpu = all(tensor.device.type == "cpu" for tensor in network.state_dict().values())
    for layers in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for i, layer in enumerate(layers):
            norm = norm_behind(layers, i)
            if norm is not None:
                layers[i] = fuse_conv_bn_eval(layer, layers[norm])
                layers[norm] = nn.Identity()
        if not on_cpu:
            continue
        positive = False
        for i, layer in enumerate(layers):
            if starts_with_relu([layer]):
                layers[i] = InplaceReLU()
                positive = True
            elif halves(layer) and (positive or starts_with_relu(layers[i + 1 :])):
                layers[i] = MaxPool2x2()
            elif not isinstance(layer, (nn.Dropout, nn.Identity)):
                positive = False
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.to(dtype)
    return finite(network)


def portable(network: nn.Module) -> nn.Module:
    """A folded network with torch's own layers in the place of this module's, which other programs do not know."""
    network = copy.deepcopy(network)
    for name, layer in list(network.named_modules()):
        if isinstance(layer, InplaceReLU):
            network.set_submodule(name, nn.ReLU())
        elif isinstance(layer, MaxPool2x2):
            network.set_submodule(name, nn.MaxPool2d(2))
    return network


def finite(network: nn.Module) -> nn.Module:
    """The network itself. Raises UserError for weights that are not finite."""
    if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
        raise UserError("the network has weights that are not finite: train it anew")
    return network
