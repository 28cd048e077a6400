"""Networks for use alone: the same function in eval mode, with less to compute.

On a CPU ReLU and pooling compare numbers as the integers that their bits are. Those are in the same order, the negative ones aside, and in
bfloat16 several times as fast to compare. (A NaN with a sign bit counts as negative.) For gradients torch's own are called.
"""

import copy
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # as wide as numbers of so many bytes


class Rectify(nn.Module):
    """ReLU in place."""

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            return F.relu_(x)
        x.view(INTEGERS[x.element_size()]).clamp_min_(0)
        return x


class Halve(nn.Module):
    """2x2 max pooling of what is nowhere negative; torch's finds out, too, where the maximum was."""

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            return F.max_pool2d(x, 2)
        whole = x.view(INTEGERS[x.element_size()])
        height, width = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
        whole = torch.maximum(whole[..., 0:width:2], whole[..., 1:width:2])
        return torch.maximum(whole[:, :, 0:height:2], whole[:, :, 1:height:2]).view(x.dtype)


def folded(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A copy of a network in eval mode whose batch norms are part of the convolutions before them, in any `nn.Sequential` of it.

    Identities stand in their places. dtype: of the autocast that it will run in; weights are cast to it once, not in every pass.
    """
    network = copy.deepcopy(network)
    on_cpu = all(tensor.device.type == "cpu" for tensor in network.state_dict().values())
    for layers in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        places = list(layers.named_children())
        for (place, layer), (next_place, following) in pairwise(places):
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                setattr(layers, place, fuse_conv_bn_eval(layer, following))
                setattr(layers, next_place, nn.Identity())
        positive = False
        for place, layer in places if on_cpu else ():
            if repr(layer) == repr(nn.ReLU(inplace=True)):
                setattr(layers, place, Rectify())
                positive = True
            elif positive and repr(layer) == repr(nn.MaxPool2d(2)):
                setattr(layers, place, Halve())
            elif not isinstance(layer, nn.Dropout):
                positive = False
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.to(dtype)
    return network
