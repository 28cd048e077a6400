"""Views: inputs made of the training images, on which the student learns what the teacher does.

A view is fixed by a seed: it is made again when it is needed, batch by batch, and never stored. Each kind is a function
(images, augmentation, generator) → (indices → batch); a new kind is one function and one line in `VIEWS`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from configs.schema import Augmentation
from configs.seeds import seed_of
from data import augment

ImagesAt = Callable[[Tensor], Tensor]


def plain(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> ImagesAt:
    """The images as they are."""
    return lambda indices: images[indices]


def augmented(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> ImagesAt:
    """The teacher's own training augmentation, one draw for each image."""
    draws = augment.draw(len(images), augmentation, generator)
    return lambda indices: augment.augment(images[indices], draws[indices])


def mixup(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> ImagesAt:
    """Each augmented image mixed with another one, in a share uniform on [0, 1]."""
    first = augmented(images, augmentation, generator)
    second = augmented(images, augmentation, generator)
    partner = torch.randperm(len(images), generator=generator)
    share = torch.rand(len(images), generator=generator)
    return lambda indices: augment.mix(first(indices), second(partner[indices]), share[indices])


VIEWS = {"plain": plain, "augmented": augmented, "mixup": mixup}


@dataclass(frozen=True)
class View:
    """One view of a data set. spec: all that decides its pixels, beside the data. images: indices [B] → images [B, H, W, C]."""

    spec: dict[str, Any]
    images: ImagesAt


def make_views(kinds: list[str], images: Tensor, augmentation: Augmentation, seed: int) -> list[View]:
    """One view of `images` for each of `kinds`; equal kinds at different places get different draws."""
    views = []
    for number, kind in enumerate(kinds):
        generator = torch.Generator().manual_seed(seed_of(seed, "view", number))
        spec = {"number": number, "kind": kind} | (asdict(augmentation) if kind != "plain" else {})
        views.append(View(spec, VIEWS[kind](images, augmentation, generator)))
    return views
