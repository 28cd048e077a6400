"""MC-dropout (Gal & Ghahramani 2016): T passes with dropout on and everything else, batch norm too, as at test time.

Works on any `nn.Sequential` with `nn.Dropout` layers. Images come in groups; the masks of pass t come from a seed made
of (seed, role, data set, view, group, pass), so that no two uses share a mask and the batch size changes nothing.

Stratified passes come in blocks of S. A unit has one number u, uniform on [0, 1), for a block, and each of the S passes
moves it by another multiple of 1/S: pass t keeps the unit if frac(u + π(t)/S) < 1 − p. Alone, each pass is plain
MC-dropout; over a block, every unit is dropped pS times, rounded up or down, so its effect cancels in the mean. And
each pass of the layers before the classifier (the trunk) is followed by BRANCHES stratified passes of the classifier,
which cost little.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from configs.errors import UserError
from configs.schema import MaskMode
from models.folding import folded
from models.hooks import hooked
from training.bar import progress_bar
from training.seeds import permutation, seed_of
from uncertainty.samples import Samples

Group = tuple[int, Tensor]
"""A number, and the positions of the images that share masks."""
Sampled = Iterator[tuple[int, Tensor, Samples]]
"""Number, positions and samples of one group after another."""
Draw = tuple[int, int]
"""The seed of a block's numbers, and what a pass adds to them, in units of 2^-16."""
HOMOGENEOUS = (nn.Dropout, nn.ReLU, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity)
BATCH = 512  # images times passes that go through the network at once, if a group has no more images
BLOCK = 16  # stratified passes that share the numbers of their units
BRANCHES = 32  # passes of the classifier for each stratified pass of the trunk
NUMBERS = 2**14  # the most probabilities of an image's samples: with many classes there are fewer branches
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # {bytes of a number: the integer type of that width}


@dataclass(frozen=True)
class Plan:
    """How a data set is sampled. Two equal plans on the same teacher and images give the same samples.

    passes: T. masks: as in `configs.schema.McDropout`. group_size: images that share a mask. key: (seed, role, data
    set, view). blocks: the least number of blocks of stratified passes; 0: plain passes, as masks that are functions
    always are. Two blocks or more give an unbiased variance. From one alone it is a few percent too large, but all else
    has less noise.
    """

    passes: int
    masks: MaskMode
    group_size: int
    key: tuple
    blocks: int = 0

    @property
    def block(self) -> int:
        """S, the passes of a block: of one or two blocks a power of two that divides all passes; 1 for plain passes."""
        if not self.blocks or self.masks == "function":
            return 1
        return max(1, min(math.gcd(self.passes, BLOCK), self.passes // self.blocks))

    def samples(self, log_probs: Tensor) -> Samples:
        """Samples [G, T', C], T' a multiple of the passes; those of a single block count as independent passes."""
        several = self.block < self.passes
        return Samples(log_probs, (self.block if several else 1) * log_probs.shape[1] // self.passes)

    def groups(self, count: int) -> list[Group]:
        """All groups of `count` images: a seeded permutation cut into groups, so that a group mixes classes.

        The permutation leaves out the role: the two halves of a reference have the same groups.
        """
        seed, _, *rest = self.key
        return list(enumerate(permutation(count, seed_of(seed, "groups", *rest)).split(self.group_size)))

    def draw(self, group: int, t: int) -> Draw:
        """Where the masks of pass t come from; in `function` mode the same for every group, data set and view."""
        if self.masks == "function":
            return seed_of(*self.key[:2], "function", t), 0
        block, stratum = divmod(t, self.block)
        return seed_of(*self.key, group, block), stratum * 2**16 // self.block

    def branches(self, group: int, t: int, classes: int) -> list[Draw]:
        """Where the masks of the classifier's passes come from that follow pass t of the trunk."""
        count = min(BRANCHES, 2 ** int(math.log2(max(1, NUMBERS // (self.passes * classes)))))
        block = min(count, BLOCK)
        seeds = [seed_of(*self.key, group, "classifier", t, b) for b in range(count // block)]
        return [(seed, stratum * 2**16 // block) for seed in seeds for stratum in range(block)]


class Sampler:
    """MC-dropout samples of a network. It is copied and folded once, so later changes to it have no effect.

    Raises UserError if the network has no dropout, or cannot be cut before its first dropout.
    """

    def __init__(self, model: nn.Module):
        split(model.eval())  # raises UserError if there is nothing to sample
        self.network = unscaled(model)
        self.device = next(model.parameters()).device.type
        self.folded: dict[torch.dtype, tuple[nn.Module, nn.Module]] = {}

    def __str__(self) -> str:
        return "the fast sampler"

    def parts(self, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
        """The folded network for an autocast type, before its first active dropout and from there on; made once."""
        if dtype not in self.folded:
            self.folded[dtype] = split(folded(self.network, dtype))
        return self.folded[dtype]

    @torch.inference_mode()
    def __call__(self, images: Callable[[Tensor], Tensor], groups: Iterable[Group], plan: Plan) -> Sampled:
        """Sample the class probabilities of images, `images(indices)`, for `groups` of the plan's.

        Yields (group number, indices [G], samples of G images). Several passes of a group share a batch of up to BATCH;
        layers before the first active dropout run once for all passes.
        """
        dtype = torch.get_autocast_dtype(self.device) if torch.is_autocast_enabled(self.device) else torch.float32
        prefix, suffix = self.parts(dtype)
        trunk, classifier = (split_head(suffix) if plan.block > 1 else None) or (suffix, None)
        classes = next((layer.out_features for layer in reversed(suffix) if isinstance(layer, nn.Linear)), 1)
        shared, spare = plan.masks != "independent", {trunk: {}, classifier: {}}

        def several(layers: nn.Module, x: Tensor, draws: list[Draw]) -> Tensor:
            with dropout_masks(layers, draws, x, shared, spare[layers]):
                return layers(x).unflatten(0, (len(draws), len(x)))

        for group, indices in groups:
            features = prefix(images(indices))
            passes = []
            for ts in torch.arange(plan.passes).split(max(1, BATCH // len(indices))):
                outputs = several(trunk, features, [plan.draw(group, t) for t in ts.tolist()])
                if classifier is not None:
                    branches = [plan.branches(group, t, classes) for t in ts.tolist()]
                    outputs = torch.cat([several(classifier, x, draws) for x, draws in zip(outputs, branches)])
                passes.append(outputs.float().log_softmax(-1))
            yield group, indices, plan.samples(torch.cat(passes).transpose(0, 1))


def samples_of(sampler: Sampler, images: Tensor, plan: Plan) -> Samples:
    """All samples of `images` [N, ...], in their order, on the CPU."""
    groups = []
    with progress_bar(desc=f"{plan.passes} passes", total=len(images), unit="image", leave=False, delay=2) as bar:
        for group in sampler(lambda indices: images[indices], plan.groups(len(images)), plan):
            groups.append(group)
            bar.update(len(group[1]))
    order = torch.cat([indices for _, indices, _ in groups]).argsort()
    log_probs = torch.cat([samples.log_probs for _, _, samples in groups])
    return Samples(log_probs.cpu()[order], groups[0][2].block)


class Unscaled(nn.Dropout):
    """Dropout whose factor 1 / (1 − p) is part of a later layer's weights."""


def unscaled(model: nn.Sequential) -> nn.Sequential:
    """A copy in which the next layer with weights does a dropout's scaling, if only layers that commute with a factor
    are in between."""
    model = copy.deepcopy(model)
    for i, layer in enumerate(model):
        if is_active(layer):
            following = next((other for other in model[i + 1 :] if not isinstance(other, HOMOGENEOUS)), None)
            if isinstance(following, (nn.Conv2d, nn.Linear)):
                following.weight.data /= 1 - layer.p
                model[i] = Unscaled(layer.p).eval()
    return model


def split(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Cut a network before its first active dropout, whose output is the first to differ from pass to pass.

    Raises UserError if there is no active dropout, or if the model is no `nn.Sequential` and so cannot be cut.
    """
    if not isinstance(model, nn.Sequential):
        raise UserError(f"MC-dropout needs an nn.Sequential, not {type(model).__name__}: wrap the layers in one")
    for i, layer in enumerate(model):
        if any(map(is_active, layer.modules())):
            return model[:i], model[i:]
    raise UserError("the teacher has no dropout with a rate above 0: there is nothing to sample")


def split_head(model: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """Cut a network before the first active dropout of its classifier (the layers after the last Flatten); None if that
    has none, or if the network is no `nn.Sequential`."""
    if not isinstance(model, nn.Sequential):
        return None
    flat = max((i for i, layer in enumerate(model) if isinstance(layer, nn.Flatten)), default=len(model))
    for i, layer in enumerate(model):
        if i > flat and is_active(layer):
            return model[:i], model[i:]
    return None


def is_active(layer: nn.Module) -> bool:
    """Whether `layer` is a dropout that drops anything."""
    return isinstance(layer, nn.Dropout) and layer.p > 0


@contextmanager
def dropout_masks(
    model: nn.Module, draws: list[Draw], batch: Tensor, shared: bool, spare: dict[torch.Size, Tensor]
) -> Iterator[None]:
    """Within this context dropout layers of `model`, in eval mode, drop: pass t by masks from `draws[t]`.

    The first dropout layer turns the N inputs of `batch` into P·N, pass by pass, P = len(draws); later layers keep
    that shape. With `shared`, all inputs share one mask per pass. spare: memory for the first layer's output, the
    largest one, used again for every batch.
    """

    def drop(layer: nn.Dropout, inputs: tuple[Tensor], _) -> Tensor:
        x = inputs[0].unflatten(0, (-1, len(batch)))  # [1 or P, N, ...]
        channels_last = (1 if shared else len(batch), *x.shape[3:], x.shape[2])
        words = {seed: stream(math.prod(channels_last)) for seed, stream in streams.items()}
        masks = keep_mask(torch.stack([stratified(words[seed], move) for seed, move in draws]), layer.p)
        masks = masks.unflatten(1, channels_last)
        integers = BITS[x.element_size()]
        masks = masks.movedim(-1, 2).to(integers)
        if layer is layers[0]:
            shape = torch.broadcast_shapes(x.shape, masks.shape)
            kept = spare[shape] = torch.bitwise_and(x.view(integers), masks, out=spare.get(shape))
        elif layer in alone:
            kept = x.view(integers).bitwise_and_(masks)
        else:
            kept = x.view(integers) & masks
        kept = kept.view(x.dtype).flatten(0, 1)
        return kept if isinstance(layer, Unscaled) else kept.mul_(1 / (1 - layer.p))

    layers = [layer for layer in model.modules() if is_active(layer)]
    alone = {layer for layer in model if layer in layers}  # no other layer uses their inputs
    streams = {seed: random_bits(seed, batch.device) for seed, _ in draws}
    with hooked(layer.register_forward_hook(drop) for layer in layers):
        yield


def random_bits(seed: int, device: torch.device) -> Callable[[int], Tensor]:
    """A stream: count → the next `count` random int16. The same seed gives the same numbers on the same kind of
    device."""
    if device.type == "cpu":  # several times as fast as torch's Mersenne twister
        words = np.random.SFC64(seed)
        return lambda count: torch.from_numpy(words.random_raw(-(-count // 4)).view(np.int16)[:count])
    generator = torch.Generator(device).manual_seed(seed)
    return lambda count: torch.empty(count, dtype=torch.int16, device=device).random_(
        -(2**15), 2**15, generator=generator
    )


def stratified(words: Tensor, move: int) -> Tensor:
    """Random int16 moved by `move`, a multiple t of 2^16 / S, times the odd number (words | 1), with wrap-around.

    That is a permutation of the words, so a pass alone sees uniform numbers. The S multiples come in an order that
    depends on a word's last bits: with one order for all, units that are dropped often would be dropped together.
    """
    return words + (words | 1) * ((move + 2**15) % 2**16 - 2**15) if move else words


def keep_mask(bits: Tensor, p: float) -> Tensor:
    """Turn random int16, in place, into masks: all ones with probability 1 − p (to within 2^-16), else zero. This is
    integer arithmetic, as comparisons are slow in torch."""
    below = round((1 - p) * 2**15) - 2**14
    return bits.bitwise_right_shift_(1).sub_(below).bitwise_right_shift_(15)
