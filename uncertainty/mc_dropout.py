"""MC-dropout (Gal & Ghahramani 2016): T passes with dropout on and everything else, batch norm too, as at test time.

Works on any `nn.Sequential` with `nn.Dropout` layers. Images come in groups; the masks of pass t come from a seed made of
(seed, role, data set, view, group, pass), so that no two uses share a mask and the batch size changes nothing.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from configs.errors import UserError
from configs.schema import MaskMode
from configs.seeds import seed_of
from uncertainty.samples import Samples


@dataclass(frozen=True)
class Plan:
    """How a data set is sampled. Two equal plans on the same teacher and images give the same samples.

    passes: T. masks: as in `configs.schema.McDropout`. group_size: images that share a mask. key: (seed, role, data set, view).
    """

    passes: int
    masks: MaskMode
    group_size: int
    key: tuple

    def groups(self, count: int) -> list[Tensor]:
        """The positions of each group's images: a seeded permutation cut into groups, so that a group mixes classes.

        The permutation leaves out the role: the two halves of a reference have the same groups.
        """
        seed, _, *rest = self.key
        generator = torch.Generator().manual_seed(seed_of(seed, "groups", *rest))
        return list(torch.randperm(count, generator=generator).split(self.group_size))

    def mask_seed(self, group: int, t: int) -> int:
        """The seed of pass t's masks; in `function` mode the same for every group, data set and view."""
        return seed_of(*self.key[:2], "function", t) if self.masks == "function" else seed_of(*self.key, group, t)


@torch.inference_mode()
def sample(
    model: nn.Module,
    images: Callable[[Tensor], Tensor],
    count: int,
    plan: Plan,
    batch_size: int = 512,
    first_group: int = 0,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Sample the class probabilities of `count` images, `images(indices)`, group by group.

    Yields (group number, indices [G], log-probabilities float32 [G, T, C]). Several passes share a batch of up to `batch_size`;
    layers before the first active dropout run once for all passes. Raises UserError if the model has no dropout.
    """
    model.eval()
    prefix, suffix = split(model)
    for group, indices in enumerate(plan.groups(count)):
        if group < first_group:
            continue
        features = prefix(images(indices))
        passes = []
        for ts in torch.arange(plan.passes).tensor_split(math.ceil(plan.passes * len(indices) / batch_size)):
            seeds = [plan.mask_seed(group, t) for t in ts.tolist()]
            with dropout_masks(suffix, seeds, len(indices), shared=plan.masks != "independent"):
                logits = suffix(features)
            passes.append(logits.float().log_softmax(-1).unflatten(0, (len(seeds), len(indices))))
        yield group, indices, torch.cat(passes).transpose(0, 1)


def samples_of(model: nn.Module, images: Tensor, plan: Plan, batch_size: int) -> Samples:
    """All samples of `images` [N, ...], in their order, on the CPU."""
    groups = []
    with tqdm(desc=f"{plan.passes} passes", total=len(images), unit="image", leave=False, delay=2) as bar:
        for group in sample(model, lambda indices: images[indices], len(images), plan, batch_size):
            groups.append(group)
            bar.update(len(group[1]))
    order = torch.cat([indices for _, indices, _ in groups]).argsort()
    return Samples(torch.cat([log_probs for _, _, log_probs in groups]).cpu()[order])


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


def split_head(model: nn.Sequential) -> tuple[nn.Module, nn.Module] | None:
    """Cut a network before the first active dropout of its classifier (the layers after the last Flatten); None if that has none."""
    flat = max((i for i, layer in enumerate(model) if isinstance(layer, nn.Flatten)), default=len(model))
    for i, layer in enumerate(model):
        if i > flat and is_active(layer):
            return model[:i], model[i:]
    return None


def is_active(layer: nn.Module) -> bool:
    """Whether `layer` is a dropout that drops anything."""
    return isinstance(layer, nn.Dropout) and layer.p > 0


@contextmanager
def dropout_masks(model: nn.Module, seeds: list[int], size: int, shared: bool) -> Iterator[None]:
    """Within this context dropout layers of `model`, in eval mode, drop: pass t by masks from `seeds[t]`.

    The first one turns a batch of `size` inputs into P·size, pass by pass, P = len(seeds); those after it keep that shape. With
    `shared`, one mask a pass serves all inputs.
    """

    def drop(layer: nn.Dropout, inputs: tuple[Tensor], _) -> Tensor:
        x = inputs[0].unflatten(0, (-1, size))  # [1 or P, size, ...]
        channels_last = (1 if shared else size, *x.shape[3:], x.shape[2])
        keep = torch.stack([torch.rand(channels_last, generator=g, device=x.device) >= layer.p for g in generators])
        # Scaling after masking: 1 / (1 − p) rounded to bfloat16 in the mask would shift every activation the same way.
        return (x * keep.movedim(-1, 2).to(x.dtype)).mul_(1 / (1 - layer.p)).flatten(0, 1)

    layers = [layer for layer in model.modules() if is_active(layer)]
    generators = [torch.Generator(next(model.parameters()).device).manual_seed(seed) for seed in seeds]
    hooks = [layer.register_forward_hook(drop) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
