"""Views: inputs made from the training images. The student learns from the teacher's samples on them.

A view is fixed by a seed: it is made anew when it is needed, batch by batch, and never stored. Each kind is a function
(number of images, their shape, augmentation, generator) → (change, mix): change(own, other, indices) makes a batch from
the images at `indices` and the images mixed with them; mix(indices) gives the indices and shares. A new kind is one
function, one line in `VIEWS` and its name in `configs.schema.View`.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from configs.schema import Augmentation
from data import augment, distort
from data.dataset import UNLABELLED, Dataset
from training.seeds import seed_of

Shape = tuple[int, int, int]
Change = Callable[[Tensor, Tensor, Tensor], Tensor]
MixAt = Callable[
    [Tensor], tuple[Tensor, Tensor]
]  # indices [B] → the other image's index [B], and the own one's share [B]
Pixels = tuple[Tensor, Tensor]  # own and other images of a batch


def plain(
    count: int, shape: Shape, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Change, MixAt | None]:
    """The images as they are."""
    return lambda own, other, indices: own, None


def augmented(
    count: int, shape: Shape, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Change, MixAt | None]:
    """The teacher's own training augmentation, one draw for each image."""
    draws = augment.draw_changes(count, augmentation, generator)
    return lambda own, other, indices: augment.augment(own, draws[indices]), None


def mixup(
    count: int, shape: Shape, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Change, MixAt | None]:
    """Each augmented image mixed with another one, in a share uniform on [0, 1]."""
    first, second = (augment.draw_changes(count, augmentation, generator) for _ in range(2))
    partner = torch.randperm(count, generator=generator).int()
    share = torch.rand(count, generator=generator)

    def change(own: Tensor, other: Tensor, indices: Tensor) -> Tensor:
        partners = partner[indices].long()
        return augment.mix(
            augment.augment(own, first[indices]), augment.augment(other, second[partners]), share[indices]
        )

    return change, lambda indices: (partner[indices].long(), share[indices])


def cutmix(
    count: int, shape: Shape, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Change, MixAt | None]:
    """Each augmented image with a rectangle of another one (Yun et al. 2019), whose area is a share uniform on [0,
    1]."""
    first, second = (augment.draw_changes(count, augmentation, generator) for _ in range(2))
    height, width, _ = shape
    partner = torch.randperm(count, generator=generator).int()
    side = torch.rand(count, generator=generator).sqrt()
    top, left = torch.rand(2, count, generator=generator) * (1 - side)

    def inside(length: int, start: Tensor, side: Tensor) -> Tensor:
        centre = (torch.arange(length) + 0.5) / length
        return (centre >= start[:, None]) & (centre < (start + side)[:, None])

    def box(indices: Tensor) -> Tensor:
        rows, columns = inside(height, top[indices], side[indices]), inside(width, left[indices], side[indices])
        return rows[:, :, None] & columns[:, None, :]

    def change(own: Tensor, other: Tensor, indices: Tensor) -> Tensor:
        theirs = augment.augment(other, second[partner[indices].long()])
        return torch.where(box(indices).unsqueeze(-1).to(own.device), theirs, augment.augment(own, first[indices]))

    return change, lambda indices: (partner[indices].long(), 1 - box(indices).float().mean((1, 2)))


def strong(
    count: int, shape: Shape, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Change, MixAt | None]:
    """Augmented images, zoomed and rotated. By chance, each is blurred, recoloured, lit (or negated), cut into shuffled
    patches, noisy."""
    draws = augment.draw_changes(count, augmentation, generator)
    height, width, channels = shape

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    def happens(chance: float) -> Tensor:
        return torch.rand(count, generator=generator) < chance

    def orders(places: int) -> Tensor:
        return torch.rand(count, places, generator=generator).argsort(1).to(torch.uint8)

    zoom, angle = 2 ** uniform(-0.8, 0.8), math.radians(45) * uniform(-1, 1)
    k = max(k for k in (1, 2, 4) if height % k == width % k == 0)
    contrast = uniform(0.3, 1.5) * (1 - 2 * happens(0.2).float())
    noise = torch.randn(distort.NOISE_FIELDS, channels, height, width, generator=generator)
    field = torch.randint(distort.NOISE_FIELDS, (count,), generator=generator).to(torch.uint8)

    def louder(x: Tensor, field: Tensor, loudness: Tensor) -> Tensor:
        return x + loudness.view(-1, 1, 1, 1) * noise[field.cpu()].to(x)

    changes = [  # each: which images, how, and with what strengths
        (happens(0.3), distort.blur, [uniform(0, 1)]),
        (happens(0.3), distort.recolour, [orders(channels), uniform(0, 1)]),
        (happens(0.5), distort.light, [contrast, uniform(-70, 70)]),
        (happens(0.2), distort.shuffle_patches, [orders(k * k)]),
        (happens(0.3), louder, [field, uniform(0, 40)]),
    ]

    def change(own: Tensor, other: Tensor, indices: Tensor) -> Tensor:
        x = augment.augment(own, draws[indices]).permute(0, 3, 1, 2).contiguous().float()
        x = distort.warp(x, angle[indices].to(x.device), zoom[indices].to(x.device))
        for chosen, how, strengths in changes:
            which = chosen[indices].nonzero().squeeze(1)
            if len(which):
                parts = [strength[indices[which]] for strength in strengths]
                parts = [(part.long() if part.dtype == torch.uint8 else part).to(x.device) for part in parts]
                x[which.to(x.device)] = how(x[which.to(x.device)], *parts)
        return x.clamp_(0, 255).permute(0, 2, 3, 1)

    return change, None


VIEWS = {"plain": plain, "augmented": augmented, "mixup": mixup, "cutmix": cutmix, "strong": strong, "other": augmented}


@dataclass(frozen=True)
class View:
    """One view of a data set. spec: all that determines its pixels, besides the data. mix: None if images are not
    mixed."""

    name: str
    spec: dict[str, Any]
    dataset: Dataset
    device: torch.device
    change: Change
    mix: MixAt | None

    def pixels(self, indices: Tensor) -> Pixels:
        """The images from which the batch at `indices` is made, on the CPU; a worker process may read them."""
        own = self.dataset.batch(indices)
        return own, own if self.mix is None else self.dataset.batch(self.mix(indices)[0])

    def images(self, indices: Tensor, pixels: Pixels | None = None) -> Tensor:
        """The batch [B, H, W, C] at `indices`, in 0-255, on the device. pixels: the result of `pixels(indices)`, if it
        is known."""
        own, other = self.pixels(indices) if pixels is None else pixels
        with torch.autocast(self.device.type, enabled=False):  # a view does not depend on the networks' arithmetic
            return self.change(own.to(self.device), other.to(self.device), indices)

    def labels(self, indices: Tensor) -> Tensor:
        """The batch's labels [B, C]: share · own + (1 − share) · other's; zeros for an unlabelled image."""
        own = self._one_hot(indices)
        if self.mix is None:
            return own
        partner, share = self.mix(indices)
        share = share.unsqueeze(1)
        return share * own + (1 - share) * self._one_hot(partner)

    def _one_hot(self, indices: Tensor) -> Tensor:
        return (self.dataset.labels[indices].unsqueeze(1) == torch.arange(len(self.dataset.classes))).float()


def by_view(indices: Tensor, number: Tensor) -> list[tuple[int, Tensor]]:
    """The images `indices` [B] sorted by the number [B] of the view in which each is shown: (number, indices) of each
    view."""
    number, order = number.sort()
    present, counts = number.unique_consecutive(return_counts=True)
    return list(zip(present.tolist(), indices[order].split(counts.tolist()), strict=True))


def in_place_of(dataset: Dataset, other: Dataset) -> Dataset:
    """As many images of `other` as `dataset` has, without labels; each is repeated if there are too few."""
    images = other.subset(torch.arange(len(dataset)) % len(other))
    return replace(images, labels=torch.full((len(dataset),), UNLABELLED), classes=dataset.classes)


def make_views(
    kinds: list[str],
    dataset: Dataset,
    augmentation: Augmentation | None,
    seed: int,
    device: torch.device,
    other: Dataset | None = None,
) -> list[View]:
    """One view of a data set for each of `kinds`: the first, second, ... of a kind get different draws, whatever the
    other kinds are.

    augmentation: None for views that are all plain. other: the images of the kind `other`.
    """
    views = []
    for place, kind in enumerate(kinds):
        number = kinds[:place].count(kind)
        generator = torch.Generator().manual_seed(seed_of(seed, "view", kind, number))
        spec = {"kind": kind, "number": number} | (asdict(augmentation) if kind != "plain" else {})
        change, mix = VIEWS[kind](len(dataset), dataset.shape, augmentation, generator)
        views.append(
            View(
                f"{kind}-{number}",
                spec,
                in_place_of(dataset, other) if kind == "other" else dataset,
                device,
                change,
                mix,
            )
        )
    return views
