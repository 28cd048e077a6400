"""The settings of a training that a config leaves open: few rules, from the number and the size of the images."""

from dataclasses import replace
from typing import Any

from configs.schema import StudentSettings, TeacherSettings

OPEN = {  # what is chosen here where a config says nothing
    TeacherSettings: ("network", "width", "lr", "epochs", "batch_size"),
    StudentSettings: ("epochs", "batch_size"),
}
SMALL = 64  # pixels; larger images need a network that shrinks them at once
FEW = 1280  # images; fewer need small steps


def epochs_of(count: int, size: int) -> int:
    """From 10 to 100, so that a network sees 200,000 images of 32 pixels or fewer, or 50,000 of 64 pixels or more: some
    five minutes of two CPU cores."""
    seen = max(50_000, 200_000 * min(1.0, (32 / size) ** 2))
    return max(10, min(100, round(seen / count)))


def for_teacher(settings: TeacherSettings, count: int, size: int) -> TeacherSettings:
    """The settings with what they leave open chosen for `count` training images of `size` pixels.

    The network is small, which is fast: vgg7, or resnet18 for large images, at half the width. A network that is named
    has its full width. The rate is one at which every network learns from few images; vgg7 learns more from many
    images at a higher one.
    """
    named = settings.network is not None
    network = settings.network or ("vgg7" if size <= SMALL else "resnet18")
    lr = 0.1 if network == "vgg7" and count >= FEW else 0.02
    settings = filled(settings, {"network": network, "width": 1.0 if named else 0.5, "lr": lr})
    return for_student(settings, count, size)


def for_student(settings: Any, count: int, size: int) -> Any:
    """The same for a student, whose network is the teacher's: epochs, and a batch of 64, or of 32 for fewer than 1,280
    images: many small steps."""
    return filled(settings, {"epochs": epochs_of(count, size), "batch_size": 64 if count >= FEW else 32})


def filled(settings: Any, values: dict) -> Any:
    """The settings with `values` for what they leave open."""
    return replace(settings, **{name: value for name, value in values.items() if getattr(settings, name) is None})


def as_made(asked: Any, made: dict) -> Any:
    """The settings with what they leave open as in `made`, the settings of a finished training."""
    return filled(asked, {name: made[name] for name in OPEN[type(asked)] if name in made})
