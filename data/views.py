"""Views: inputs made of the training images, on which the student learns what the teacher does.

A view is fixed by a seed: it is made again when it is needed, batch by batch, and never stored. Each kind is a function
(images, augmentation, generator) → (indices → batch); a new kind is one function and one line in `VIEWS`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from configs.schema import Augmentation
from data import augment

ViewOf = Callable[[Tensor], Tensor]  # indices [B] → images [B, H, W, C]


def plain(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> ViewOf:
    """The images as they are."""
    return lambda indices: images[indices]


def augmented(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> ViewOf:
    """The teacher's own training augmentation, one draw for each image."""
    draws = augment.draw(len(images), augmentation: Augmentation, generator)
    return lambda indices: augment.augment(images[indices], draws[indices])


def mixup(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> ViewOf:
    """Each augmented image mixed with another one, in a share uniform on [0, 1]."""
    first = augmented(images, augmentation, generator)
    second = augmented(images, augmentation, generator)
    partner = torch.randperm(len(images), generator=generator)
    share = torch.rand(len(images), generator=generator)
    return lambda indices: augment.mix(first(indices), second(partner[indices]), share[indices])


VIEWS = {"plain": plain, "augmented": augmented, "mixup": mixup}
