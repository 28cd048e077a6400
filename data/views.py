"""Views: inputs made from the training images. The student learns from the teacher's samples on them.

A view is fixed by a seed: it is made anew when it is needed, batch by batch, and never stored. Each kind is a function
of `Draws`, the random numbers of all images, → (change, mix): change(own, other, indices) makes a batch from the images
at `indices` and the images mixed with them; mix(indices) gives the other images' indices and the own ones' shares. A
new kind is one function, one line in `VIEWS` and its name in `configs.schema.View`.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.schema import Augmentation, Shape
from data import distort
from data.augment import augment, draw_changes
from data.dataset import UNLABELLED, Dataset
from training.seeds import seed_of

Change = Callable[[Tensor, Tensor, Tensor], Tensor]
Mix = Callable[[Tensor], tuple[Tensor, Tensor]] | None  # None: images are not mixed
Kind = tuple[Change, Mix]
Pixels = tuple[Tensor, Tensor]  # own and other images of a batch


@dataclass
class Draws:
    """What is drawn for each of `count` images of one shape [H, W, C]."""

    count: int
    shape: Shape
    augmentation: Augmentation | None
    generator: torch.Generator

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """A number [N] in [low, high)."""
        return low + (high - low) * torch.rand(self.count, generator=self.generator)

    def order(self, places: int) -> Tensor:
        """An order [N, places] of the places."""
        return torch.rand(self.count, places, generator=self.generator).argsort(1).int()

    def augmented(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The teacher's own training augmentation, as a function of (images, their indices)."""
        changes = draw_changes(self.count, self.augmentation, self.generator)
        return lambda images, indices: augment(images, changes[indices])

    def pairs(self) -> tuple[Callable[[Tensor, Tensor, Tensor], Pixels], Tensor]:
        """The augmentation of an image and of the one mixed with it, and the latter's index [N]."""
        first, second = self.augmented(), self.augmented()
        partner = torch.randperm(self.count, generator=self.generator)
        return lambda own, other, indices: (first(own, indices), second(other, partner[indices])), partner


def plain(draws: Draws) -> Kind:
    """The images as they are."""
    return lambda own, other, indices: own, None


def augmented(draws: Draws) -> Kind:
    """The teacher's own training augmentation, one draw for each image."""
    changed = draws.augmented()
    return lambda own, other, indices: changed(own, indices), None


def mixup(draws: Draws) -> Kind:
    """Each augmented image mixed with another one, in a share uniform on [0, 1] (Zhang et al. 2018, eq. 1)."""
    pair, partner = draws.pairs()
    share = draws.uniform()

    def change(own: Tensor, other: Tensor, indices: Tensor) -> Tensor:
        own, other = pair(own, other, indices)
        part = share[indices].to(own.device).view(-1, 1, 1, 1)
        return part * own.float() + (1 - part) * other.float()

    return change, lambda indices: (partner[indices], share[indices])


def cutmix(draws: Draws) -> Kind:
    """Each augmented image with a rectangle of another one (Yun et al. 2019), whose area is a share uniform on [0,
    1]."""
    pair, partner = draws.pairs()
    side = draws.uniform().sqrt()
    edges = [draws.uniform() * (1 - side) for _ in range(2)]  # above and left
    centres = [(torch.arange(length) + 0.5) / length for length in draws.shape[:2]]

    def box(indices: Tensor) -> Tensor:
        rows, columns = (
            (centre >= edge[indices, None]) & (centre < (edge + side)[indices, None])
            for centre, edge in zip(centres, edges)
        )
        return rows[:, :, None] & columns[:, None, :]

    def change(own: Tensor, other: Tensor, indices: Tensor) -> Tensor:
        own, other = pair(own, other, indices)
        return torch.where(box(indices).unsqueeze(-1).to(own.device), other, own)

    return change, lambda indices: (partner[indices], 1 - box(indices).float().mean((1, 2)))


def strong(draws: Draws) -> Kind:
    """Augmented images, zoomed and rotated. By chance, each is blurred, recoloured, lit (or negated), cut into shuffled
    patches, noisy."""
    changed, uniform = draws.augmented(), draws.uniform
    height, width, channels = draws.shape
    zoom, angle = 2 ** uniform(-0.8, 0.8), math.radians(45) * uniform(-1, 1)
    k = max(k for k in (1, 2, 4) if height % k == width % k == 0)
    contrast = uniform(0.3, 1.5) * (1 - 2 * (uniform() < 0.2).float())
    noise = torch.randn(distort.NOISE_FIELDS, channels, height, width, generator=draws.generator)
    field = torch.randint(distort.NOISE_FIELDS, (draws.count,), generator=draws.generator)

    def louder(x: Tensor, field: Tensor, loudness: Tensor) -> Tensor:
        return x + loudness.view(-1, 1, 1, 1) * noise.to(x)[field]

    distortions = [  # each: which images, how, and with what strengths
        (uniform() < 0.3, distort.blur, [uniform()]),
        (uniform() < 0.3, distort.recolour, [draws.order(channels), uniform()]),
        (uniform() < 0.5, distort.light, [contrast, uniform(-70, 70)]),
        (uniform() < 0.2, distort.shuffle_patches, [draws.order(k * k)]),
        (uniform() < 0.3, louder, [field, uniform(0, 40)]),
    ]

    def change(own: Tensor, other: Tensor, indices: Tensor) -> Tensor:
        x = changed(own, indices).permute(0, 3, 1, 2).contiguous().float()
        x = distort.warp(x, angle[indices].to(x.device), zoom[indices].to(x.device))
        for chosen, how, strengths in distortions:
            which = chosen[indices].nonzero().squeeze(1)
            if len(which):
                x[which] = how(x[which], *(strength[indices[which]].to(x.device) for strength in strengths))
        return x.clamp_(0, 255).permute(0, 2, 3, 1)

    return change, None


VIEWS = {"plain": plain, "augmented": augmented, "mixup": mixup, "cutmix": cutmix, "strong": strong, "other": augmented}


@dataclass(frozen=True)
class View:
    """One view of a data set. spec: all that determines its pixels, besides the data."""

    name: str
    spec: dict
    dataset: Dataset
    device: torch.device
    change: Change
    mix: Mix

    def pixels(self, indices: Tensor) -> Pixels:
        """The images from which the batch at `indices` is made, on the CPU; a worker process may read them."""
        own = self.dataset.batch(indices)
        return own, self.dataset.batch(self.mix(indices)[0]) if self.mix else own

    def images(self, indices: Tensor, pixels: Pixels | None = None) -> Tensor:
        """The batch [B, H, W, C] at `indices`, in 0-255, on the device. pixels: the result of `pixels(indices)`, if it
        is known."""
        own, other = pixels or self.pixels(indices)
        with torch.autocast(self.device.type, enabled=False):  # a view does not depend on the networks' arithmetic
            return self.change(own.to(self.device), other.to(self.device), indices)

    def labels(self, indices: Tensor) -> Tensor:
        """The batch's labels [B, C]: share · own + (1 − share) · other's; zeros for an unlabelled image."""

        def one_hot(at: Tensor) -> Tensor:
            return F.one_hot(self.dataset.labels[at] + 1, len(self.dataset.classes) + 1)[:, 1:].float()

        if not self.mix:
            return one_hot(indices)
        partner, share = self.mix(indices)
        return share.unsqueeze(1) * one_hot(indices) + (1 - share.unsqueeze(1)) * one_hot(partner)


def by_view(indices: Tensor, number: Tensor) -> list[tuple[int, Tensor]]:
    """The images `indices` [B] sorted by the number [B] of the view in which each is shown: (number, indices) of each
    view."""
    number, order = number.sort()
    present, counts = number.unique_consecutive(return_counts=True)
    return list(zip(present.tolist(), indices[order].split(counts.tolist()), strict=True))


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

    augmentation: None for views that are all plain. other: the images of the kind `other`, without their labels; they
    are repeated if there are too few.
    """
    views = []
    for place, kind in enumerate(kinds):
        number = kinds[:place].count(kind)
        generator = torch.Generator().manual_seed(seed_of(seed, "view", kind, number))
        spec = {"kind": kind, "number": number} | (asdict(augmentation) if kind != "plain" else {})
        images = dataset
        if kind == "other":
            images = other.subset(torch.arange(len(dataset)) % len(other))
            images = replace(images, labels=torch.full_like(dataset.labels, UNLABELLED), classes=dataset.classes)
        change, mix = VIEWS[kind](Draws(len(dataset), dataset.shape, augmentation, generator))
        views.append(View(f"{kind}-{number}", spec, images, device, change, mix))
    return views
