"""Views: inputs made of the training images, on which the student learns what the teacher does.

A view is fixed by a seed: it is made again when it is needed, batch by batch, and never stored. Each kind is a function
(images, augmentation, generator) → (indices → batch, indices → what each is mixed of); a new kind is one function and one line in `VIEWS`.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from configs.schema import Augmentation
from data import augment, distort
from training.seeds import seed_of

ImagesAt = Callable[[Tensor], Tensor]
MixAt = Callable[[Tensor], tuple[Tensor, Tensor]]  # indices [B] → the other image's index [B], and the own one's share [B]


def alone(indices: Tensor) -> tuple[Tensor, Tensor]:
    """What an image that is not mixed is made of: itself alone."""
    return indices, torch.ones(len(indices))


def plain(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> tuple[ImagesAt, MixAt]:
    """The images as they are."""
    return lambda indices: images[indices], alone


def augmented(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> tuple[ImagesAt, MixAt]:
    """The teacher's own training augmentation, one draw for each image."""
    draws = augment.draw(len(images), augmentation, generator)
    return lambda indices: augment.augment(images[indices], draws[indices]), alone


def mixup(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> tuple[ImagesAt, MixAt]:
    """Each augmented image mixed with another one, in a share uniform on [0, 1]."""
    first, _ = augmented(images, augmentation, generator)
    second, _ = augmented(images, augmentation, generator)
    partner = torch.randperm(len(images), generator=generator)
    share = torch.rand(len(images), generator=generator)

    def at(indices: Tensor) -> Tensor:
        return augment.mix(first(indices), second(partner[indices]), share[indices])

    return at, lambda indices: (partner[indices], share[indices])


def cutmix(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> tuple[ImagesAt, MixAt]:
    """Each augmented image with a rectangle of another one (Yun et al. 2019), whose area is a share uniform on [0, 1]."""
    first, _ = augmented(images, augmentation, generator)
    second, _ = augmented(images, augmentation, generator)
    count, height, width, _ = images.shape
    partner = torch.randperm(count, generator=generator)
    side = torch.rand(count, generator=generator).sqrt()
    top, left = torch.rand(2, count, generator=generator) * (1 - side)

    def inside(length: int, start: Tensor, side: Tensor) -> Tensor:
        centre = (torch.arange(length) + 0.5) / length
        return (centre >= start[:, None]) & (centre < (start + side)[:, None])

    def box(indices: Tensor) -> Tensor:
        rows, columns = inside(height, top[indices], side[indices]), inside(width, left[indices], side[indices])
        return rows[:, :, None] & columns[:, None, :]

    def at(indices: Tensor) -> Tensor:
        return torch.where(box(indices).unsqueeze(-1).to(images.device), second(partner[indices]), first(indices))

    return at, lambda indices: (partner[indices], 1 - box(indices).float().mean((1, 2)))


def strong(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> tuple[ImagesAt, MixAt]:
    """Augmented images zoomed and rotated, and each, by chance, blurred, recoloured, lit, negated, shuffled in patches, noisy."""
    first, _ = augmented(images, augmentation, generator)
    count, height, width, channels = images.shape

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    def happens(chance: float) -> Tensor:
        return torch.rand(count, generator=generator) < chance

    zoom, angle = 2 ** uniform(-0.8, 0.8), math.radians(45) * uniform(-1, 1)
    k = max(k for k in (1, 2, 4) if height % k == width % k == 0)
    contrast = uniform(0.3, 1.5) * (1 - 2 * happens(0.2).float())
    noise = torch.randn(distort.NOISE_FIELDS, channels, height, width, generator=generator).to(images.device)
    field = torch.randint(distort.NOISE_FIELDS, (count,), generator=generator)
    changes = [  # each: which images, how, and with what strengths
        (happens(0.3), distort.blur, [uniform(0, 1)]),
        (happens(0.3), distort.recolour, [torch.rand(count, channels, generator=generator).argsort(1), uniform(0, 1)]),
        (happens(0.5), distort.light, [contrast, uniform(-70, 70)]),
        (happens(0.2), distort.shuffle_patches, [torch.rand(count, k * k, generator=generator).argsort(1)]),
        (happens(0.3), lambda x, field, loudness: x + loudness.view(-1, 1, 1, 1) * noise[field], [field, uniform(0, 40)]),
    ]

    def at(indices: Tensor) -> Tensor:
        x = first(indices).permute(0, 3, 1, 2).contiguous().float()
        x = distort.warp(x, angle[indices].to(x.device), zoom[indices].to(x.device))
        for chosen, change, strengths in changes:
            which = chosen[indices].nonzero().squeeze(1)
            if len(which):
                x[which.to(x.device)] = change(x[which.to(x.device)], *(s[indices[which]].to(x.device) for s in strengths))
        return x.clamp_(0, 255).permute(0, 2, 3, 1)

    return at, alone


VIEWS = {"plain": plain, "augmented": augmented, "mixup": mixup, "cutmix": cutmix, "strong": strong}


@dataclass(frozen=True)
class View:
    """One view of a data set. spec: all that decides its pixels, beside the data. images: indices [B] → images [B, H, W, C].
    mix: what they are mixed of."""

    name: str
    spec: dict[str, Any]
    images: ImagesAt
    mix: MixAt

    def labels(self, one_hot: Tensor, indices: Tensor) -> Tensor:
        """The labels [B, C] of images that may be mixtures: share · own + (1 − share) · other's, of all labels one_hot [N, C]."""
        partner, share = self.mix(indices)
        share = share.to(one_hot.device).unsqueeze(1)
        return share * one_hot[indices] + (1 - share) * one_hot[partner]


def make_views(kinds: list[str], images: Tensor, augmentation: Augmentation, seed: int) -> list[View]:
    """One view of `images` for each of `kinds`: the first, second, ... of a kind get different draws, whatever the other kinds are."""
    views = []
    for place, kind in enumerate(kinds):
        number = kinds[:place].count(kind)
        generator = torch.Generator().manual_seed(seed_of(seed, "view", kind, number))
        spec = {"kind": kind, "number": number} | (asdict(augmentation) if kind != "plain" else {})
        views.append(View(f"{kind}-{number}", spec, *VIEWS[kind](images, augmentation, generator)))
    return views


def batch_of(views: list[View], number: Tensor, indices: Tensor, one_hot: Tensor) -> tuple[Tensor, Tensor]:
    """Image indices[i] in view number[i], in 0-255 [B, H, W, C], and its labels [B, C]; number is in ascending order."""
    present, counts = number.unique_consecutive(return_counts=True)
    parts = [(views[v], part) for v, part in zip(present.tolist(), indices.split(counts.tolist()))]
    images, labels = zip(*((view.images(part).float(), view.labels(one_hot, part)) for view, part in parts))
    return torch.cat(images), torch.cat(labels)
