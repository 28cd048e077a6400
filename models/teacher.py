"""The teacher of a run: its settings, and how to load it."""

from dataclasses import asdict
from typing import Any

from torch import nn

from configs import artifact
from configs.errors import UserError
from configs.run import Run
from models.vgg import Architecture, vgg

FILE = "teacher.safetensors"


def settings(run: Run) -> dict[str, Any]:
    """All settings that decide the teacher's weights."""
    config = run.config
    return {"seed": config.seed, "teacher": asdict(config.teacher), "augmentation": asdict(config.data.augmentation)}


def load_teacher(run: Run) -> tuple[nn.Sequential, dict[str, Any]]:
    """The trained teacher, in eval mode on the run's device, and its metadata with the `checksum` of its weights.

    Raises UserError if there is none, or if it was trained with other settings than the config's.
    """
    if not (run.source / FILE).exists():
        raise UserError(f"{run.source / FILE}: no such file; run train_teacher.py with the same --config first")
    tensors, metadata = artifact.load(run.source / FILE)
    wanted = settings(run)
    run.require_same(run.source / FILE, {key: metadata["settings"][key] for key in wanted}, wanted)
    teacher = vgg(Architecture(**metadata["architecture"]))
    teacher.load_state_dict(tensors)
    return teacher.to(run.device).eval(), metadata | {"checksum": artifact.checksum(tensors)}
