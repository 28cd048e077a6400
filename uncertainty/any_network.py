"""MC-dropout of any `nn.Module`: by the plain loop, or, where its rules hold, by the fast sampler of `uncertainty.mc_dropout`."""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from training.errors import UserError
from uncertainty.mc_dropout import Group, Plan, Sampler

ATTENTION = (nn.MultiheadAttention, nn.Transformer, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
RANDOM = (_DropoutNd, nn.RNNBase, nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d, *ATTENTION)


def sampler_of(network: nn.Module) -> "Sampler | PlainLoop":
    """The fast sampler of a network whose only randomness is `nn.Dropout` among its own layers; else the plain loop.

    Raises UserError for a network of the first kind without dropout.
    """
    return Sampler(network) if drops_only_in_layers(network) else PlainLoop(network)


def drops_only_in_layers(network: nn.Module) -> bool:
    """Whether a network is an `nn.Sequential` of torch's and this project's layers in which nothing but `nn.Dropout` is random, and no
    dropout stands in two places."""
    modules = [module for _, module in network.named_modules(remove_duplicate=False)]
    known = all(type(module).__module__.startswith(("torch.nn.", "models.")) for module in modules)
    random = [module for module in modules if isinstance(module, RANDOM)]
    once = len(set(random)) == len(random)
    return isinstance(network, nn.Sequential) and known and once and all(type(module) is nn.Dropout for module in random)


class PlainLoop:
    """Samples of any network by one pass after another, each of a whole group: right for every kind of randomness that a network has.

    What is random in training (dropout of any kind, as a module, a function or in attention; stochastic depth) is random; every
    normalization is as at test time. Images of a group have masks of their own. The network is copied.
    """

    def __init__(self, network: nn.Module):
        self.network = copy.deepcopy(network).eval()
        self.checked = False

    @torch.inference_mode()
    def __call__(
        self, images: Callable[[Tensor], Tensor], groups: Iterable[Group], plan: Plan, batch_size: int = 0
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """As `Sampler`, but a group is one batch, whatever `batch_size` is: pass t's masks depend on what is in the batch.

        Raises UserError if the passes do not differ, if they change the network's buffers, or for masks that are functions.
        """
        if plan.masks == "function":
            raise UserError("sampling.masks: function needs a network whose only randomness is nn.Dropout among its own layers")
        for group, indices in groups:
            batch = images(indices)
            passes = []
            with torch.random.fork_rng(), only_random_in_training(self.network):
                before = {} if self.checked else {name: value.clone() for name, value in self.network.named_buffers()}
                for t in range(plan.passes):
                    torch.manual_seed(plan.mask_seed(group, t))
                    passes.append(self.network(batch).float().log_softmax(-1))
            if not self.checked:
                self._check(passes, before)
            yield group, indices, torch.stack(passes, 1)

    def _check(self, passes: list[Tensor], before: dict[str, Tensor]) -> None:
        for name, value in self.network.named_buffers():
            if not torch.equal(value, before[name]):
                raise UserError(f"the passes change {name}, a buffer of the network: samples would depend on their order")
        if all(torch.equal(one, passes[0]) for one in passes):
            raise UserError("nothing in this network is random: no dropout with p > 0 was called")
        self.checked = True


@contextmanager
def only_random_in_training(network: nn.Module) -> Iterator[None]:
    """Within this context every module is in training mode but the normalizations, whose statistics stay those of test time."""
    modes = {module: module.training for module in network.modules()}
    for module in modes:
        module.training = not isinstance(module, _NormBase)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
