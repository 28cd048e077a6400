"""MC-dropout of any `nn.Module`: by the fast sampler of `uncertainty.mc_dropout` if the network fits it, else by the
plain loop."""

import copy
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from random import getstate

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._python_dispatch import TorchDispatchMode

from configs.errors import UserError
from models.external import External, first_of, outputs_by_name
from models.hooks import hooked, modes_kept
from uncertainty.mc_dropout import (
    Group,
    Plan,
    Sampled,
    Sampler,
    dropout_masks,
    keep_mask,
    random_bits,
    samples_of,
    stratified,
)
from uncertainty.samples import Samples
from uncertainty.speed import in_turn

ATTENTION = (nn.MultiheadAttention, nn.Transformer, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
TOLERANCE = 1e-3  # of logits that should be equal
RANDOM = (_DropoutNd, nn.RNNBase, nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d, *ATTENTION)


def sampler_of(network: nn.Module) -> "Sampler | PlainLoop":
    """The fast sampler of a network whose only randomness is `nn.Dropout` among its own layers; else the plain loop.

    The fast sampler is taken for an external network only if it gives what the network itself gives under the same
    masks: a layer may compute its weight anew, or be in two places. Raises UserError for a network of the first kind
    without dropout.
    """
    layers = network.in_a_row if isinstance(network, External) else network
    if not drops_only_in_layers(layers):
        return PlainLoop(network)
    sampler = Sampler(layers)
    if isinstance(network, External) and not reproduces(sampler, layers, network.some_images()):
        return PlainLoop(network, "its folded layers give other logits: is a weight computed anew, or used twice?")
    return sampler


@torch.inference_mode()
def reproduces(sampler: Sampler, layers: nn.Module, images: Tensor) -> bool:
    """Whether the fast sampler gives, within a thousandth, the logits of the layers as they are, under its masks."""
    try:
        prefix, suffix = sampler.parts(torch.float32)
        with dropout_masks(suffix, [(0, 0)], images, True, {}):
            fast = suffix(prefix(images))
    except (RuntimeError, TypeError, AttributeError):  # of a layer that cannot be folded
        return False
    with dropout_masks(layers, [(0, 0)], images, True, {}):
        plain = layers(images)
    return torch.allclose(fast, plain, rtol=TOLERANCE, atol=TOLERANCE)


def drops_only_in_layers(network: nn.Module) -> bool:
    """Whether a network is an `nn.Sequential` of torch's and this project's layers in which only `nn.Dropout` is
    random, and no dropout module is in two places."""
    modules = [module for _, module in network.named_modules(remove_duplicate=False)]
    known = all(is_known(type(module)) for module in modules)
    random = [module for module in modules if isinstance(module, RANDOM)]
    once = len(set(random)) == len(random)
    return (
        isinstance(network, nn.Sequential) and known and once and all(type(module) is nn.Dropout for module in random)
    )


def is_known(kind: type) -> bool:
    """Whether a class is torch's or this project's: a user's own package can be called `models` too."""
    place = kind.__module__
    mine = place.startswith("models.") and getattr(sys.modules.get(place), kind.__name__, None) is kind
    return mine or place.startswith("torch.nn.")


class PlainLoop:
    """Samples any network by one pass after another, each pass on a whole group. It is correct for every kind of
    randomness.

    Everything that is random in training (dropout as a module, a function or in attention; stochastic depth) is random;
    all else is as at test time: modules that draw no numbers, and normalizations, are in eval mode. Each image of a
    group has its own masks. The network is copied. If all randomness is in one last module, such as a classifier, the
    part before it is computed once. `head`: the name of that module. `dropouts`: the random modules, if all are
    nn.Dropout; passes can then be stratified. why: the fast sampler is not used.
    """

    def __init__(self, network: nn.Module, why: str = "not all is nn.Dropout in an nn.Sequential"):
        self.network = copy.deepcopy(network).eval()
        self.why = why
        self.random: list[str] = []
        self.head: str | None = None
        self.dropouts: list[nn.Dropout] = []
        self.checked = False

    @torch.inference_mode()
    def __call__(self, images: Callable[[Tensor], Tensor], groups: Iterable[Group], plan: Plan) -> Sampled:
        """As `Sampler`, but a group is always one batch, as the masks of pass t depend on the batch.

        Stratified if `dropouts` allows it. Raises UserError if the passes do not differ, if they change the network's
        buffers, or for masks that are functions.
        """
        if plan.masks == "function":
            raise UserError(
                "sampling.masks: function needs a network whose only randomness is nn.Dropout among its own layers"
            )
        for group, indices in groups:
            batch = images(indices)
            with torch.random.fork_rng([batch.device] if batch.is_cuda else []):
                samples = self._samples(batch, group, plan)
            yield group, indices, samples

    def _samples(self, batch: Tensor, group: int, plan: Plan) -> Samples:
        """The passes on a group. They leave torch's random generators seeded, that of the CPU too."""
        if not self.checked:
            self.random = list(draws_of(self.network, batch))
            with training(self.network, self.random):
                self._check(batch)
        drawn = plan if self.dropouts else replace(plan, blocks=0)
        in_blocks = drawn.block > 1
        with training(self.network, self.random):
            one_pass = self._one_pass(batch)
            passes = []
            for t in range(plan.passes):
                seed, move = drawn.draw(group, t)
                torch.manual_seed(seed)
                with masked(self.dropouts, random_bits(seed, batch.device), move) if in_blocks else nullcontext():
                    passes.append(one_pass())
        return drawn.samples(torch.stack(passes, 1).float().log_softmax(-1))

    def _one_pass(self, batch: Tensor) -> Callable[[], Tensor]:
        """A function that computes the logits of one more pass."""
        if self.head is None:
            return partial(self.network, batch)
        head = self.network.get_submodule(self.head)
        seen = inputs_of(self.network, [self.head], batch)[self.head]
        return lambda: first_of(head(seen.clone()))  # the head may work in place

    def _check(self, batch: Tensor) -> None:
        """Require that two passes on a batch differ and do not change the network. If they differ in one last module
        alone, that module is the head."""
        before = {name: value.clone() for name, value in self.network.named_buffers()}
        logits = [self.network(batch) for _ in range(2)]

        def seeded(work: Callable[[], Tensor]) -> Tensor:
            torch.manual_seed(0)
            return work()

        whole, among_others = (
            seeded(partial(self.network, images)) for images in (batch, torch.cat([batch[:1], 255 - batch[1:]]))
        )
        if not torch.allclose(whole[:1], among_others[:1], rtol=1e-2, atol=1e-2):
            raise UserError(
                "an image's passes depend on the other images of its batch: a part that draws random numbers also uses "
                "the batch's statistics in training mode"
            )
        for name, value in self.network.named_buffers():
            if not torch.equal(value, before[name]):
                raise UserError(
                    f"the passes change {name}, a buffer of the network: samples would depend on their order"
                )
        if torch.equal(*logits):
            raise UserError("nothing in this network is random: no dropout with p > 0 was called")
        outputs = outputs_by_name(self.network, lambda: self.network(batch))
        ends = [name for name, _ in self.network.named_modules() if name and outputs.get(name) is outputs[""]]
        first, second = (inputs_of(self.network, ends, batch) for _ in range(2))
        same = [name for name in ends if name in first and name in second and torch.equal(first[name], second[name])]
        for self.head in [*reversed(same), None]:
            if torch.equal(whole, seeded(self._one_pass(batch))):
                break
        random = [self.network.get_submodule(name) for name in self.random]
        self.dropouts = random if all(type(module) is nn.Dropout for module in random) else []
        self.checked = True

    def __str__(self) -> str:
        return (
            "the plain loop"
            if self.head in (None, "module")
            else f"the plain loop over {self.head.removeprefix('module.')} alone"
        )


def inputs_of(network: nn.Module, names: list[str], batch: Tensor) -> dict[str, Tensor]:
    """The inputs of the modules `names` in a pass on `batch`, of those modules that take one tensor."""
    seen = {}

    def note(name: str) -> Callable:
        def hook(_, inputs: tuple, others: dict) -> None:
            if len(inputs) == 1 and isinstance(inputs[0], Tensor) and not others:
                seen[name] = inputs[0].clone()

        return hook

    with hooked(network.get_submodule(name).register_forward_pre_hook(note(name), with_kwargs=True) for name in names):
        network(batch)
    return seen


@contextmanager
def training(network: nn.Module, names: Iterable[str]) -> Iterator[None]:
    """Within this context the modules `names`, and those that they are part of, are in training mode, except
    normalizations; all others are in eval mode. A hand-written normalization in a part that draws nothing keeps the
    statistics of test time too."""
    inside = [f"{name}." for name in names]
    with modes_kept(network):
        for name, module in network.named_modules():
            random = any(part.startswith(f"{name}." if name else "") for part in inside)
            module.training = random and not isinstance(module, _NormBase)
        yield


class _Draws(TorchDispatchMode):
    """Notes the operations that draw random numbers, and the module that is running."""

    def __init__(self):
        super().__init__()
        self.running: list[str] = []
        self.found: dict[str, str] = {}
        self.count = 0

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        options = options or {}
        if torch.Tag.nondeterministic_seeded not in operation.tags:
            return operation(*arguments, **options)
        before, result = generators(), operation(*arguments, **options)
        if options.get("generator") or not all(map(torch.equal, before, generators())):  # attention may draw nothing
            self.found.setdefault(self.running[-1], operation.overloadpacket.__name__.strip("_"))
            self.count += 1
        return result


def generators() -> list[Tensor]:
    """The states of torch's generators."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [])]


def other_generators() -> str:
    """The states of Python's and numpy's generators."""
    return repr((getstate(), np.random.get_state(legacy=False)))


@contextmanager
def masked(dropouts: list[nn.Dropout], bits: Callable[[int], Tensor], move: int) -> Iterator[None]:
    """Within this context these modules, which are put into eval mode, drop: one stratified pass, with the numbers
    `bits` of its block and what the pass adds to them."""

    def drop(layer: nn.Dropout, inputs: tuple[Tensor], _) -> Tensor:
        x = inputs[0]
        kept = keep_mask(stratified(bits(x.numel()), move), layer.p).view(x.shape).bool()
        return torch.where(kept, x / (1 - layer.p), 0)

    for layer in dropouts:
        layer.eval()
    with hooked(layer.register_forward_hook(drop) for layer in dropouts):
        yield


@torch.no_grad()
def draws_of(network: nn.Module, images: Tensor, dropout_on: bool = True) -> dict[str, str]:
    """The modules that draw random numbers in a pass: {name: operation}. For a function, such as F.dropout, it is the
    module that calls it.

    Raises UserError for numbers of Python's or numpy's generators, and for a dropout that is called as
    `dropout.forward(x)`: it is not seen, and would not be on.
    """
    everything = [name for name, _ in network.named_modules()] if dropout_on else []
    before = other_generators()
    draws = _draws(network, images, everything)
    if other_generators() != before:
        raise UserError("the network draws random numbers by Python or numpy: only those of torch can be sampled")
    if dropout_on and _draws(network, images, draws.found).count != draws.count:
        raise UserError("a dropout is called as dropout.forward(x): write dropout(x), or it cannot be found")
    return draws.found


def _draws(network: nn.Module, images: Tensor, names: Iterable[str]) -> _Draws:
    """What is drawn in a pass with these modules in training mode."""
    network = copy.deepcopy(network).eval()
    draws = _Draws()
    for name, part in network.named_modules():
        part.register_forward_pre_hook(lambda _, __, name=name: draws.running.append(name))
        part.register_forward_hook(lambda *_: draws.running.pop() and None)
    with torch.random.fork_rng([images.device] if images.is_cuda else []), training(network, names), draws:
        network(images)
    return draws


def what_is_random(network: nn.Module, images: Tensor) -> dict[str, list[str]]:
    """The modules that draw random numbers in a pass with dropout on: {kind: names}."""
    found = {}
    for name, operation in draws_of(network, images).items():
        part = network.get_submodule(name)
        kind = str(part) if isinstance(part, _DropoutNd) else f"{type(part).__name__}: {operation}"
        place = name.removeprefix("module").removeprefix(".") if isinstance(network, External) else name
        found.setdefault(kind, []).append(place or "the network")
    return found


def cost_in_passes(sampler: Callable, network: nn.Module, images: Tensor, passes: int) -> float:
    """The time of `passes` samples of `images`, in units of a single pass of the network; each time is the shortest of
    three."""
    plan = Plan(passes, "grouped", len(images), (0, "cost"))
    works = {
        "samples": lambda: samples_of(sampler, images, plan),
        "single": lambda: network(images),
    }
    with torch.inference_mode():
        seconds = in_turn(works, 3)
    return min(seconds["samples"]) / min(seconds["single"])
