"""The student: one deterministic pass from images to a Dirichlet over class probabilities."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs import artifact
from configs.errors import UserError
from configs.run import Run
from models.vgg import Architecture, vgg
from uncertainty.dirichlet import Dirichlet

FILE = "student.safetensors"


def settings(run: Run) -> dict[str, Any]:
    """All settings that decide the student's weights, beside the teacher and the data."""
    sampling = asdict(run.config.sampling)
    sampling.pop("batch_size")
    return {"seed": run.config.seed, "student": asdict(run.config.student), "sampling": sampling}


class Student(nn.Module):
    """Images [N, H, W, C] in 0-255 → Dirichlet(α), α = softplus(logits) + floor, in float32."""

    def __init__(self, architecture: Architecture, alpha_floor: float, classes: list[str]):
        super().__init__()
        self.network = vgg(architecture)
        self.architecture = architecture
        self.alpha_floor = alpha_floor
        self.classes = classes

    def forward(self, images: Tensor) -> Dirichlet:
        return self.distribution(self.network(images))

    def distribution(self, logits: Tensor) -> Dirichlet:
        """The distribution that the network's outputs [N, C] stand for."""
        return Dirichlet(F.softplus(logits.float()) + self.alpha_floor)

    def init_from(self, teacher: nn.Module) -> int:
        """Copy every tensor of `teacher` that has the same name and shape here; returns how many."""
        mine = self.network.state_dict()
        fitting = {name: value for name, value in teacher.state_dict().items() if name in mine and value.shape == mine[name].shape}
        self.network.load_state_dict(mine | fitting)
        return len(fitting)

    def save(self, path: Path, metadata: dict) -> None:
        """Write weights and all that is needed to build the student again."""
        built = {"architecture": asdict(self.architecture), "alpha_floor": self.alpha_floor, "classes": self.classes}
        artifact.save(path, self.network.state_dict(), built | metadata)


def load_student(run: str | Path, device: str | torch.device = "cpu") -> Student:
    """The trained student of a run's folder, ready to be called on uint8 images [N, H, W, C].

        student = load_student("runs/digits")
        distribution = student(images)
        distribution.mean, distribution.mutual_information

    Raises UserError if the folder has no student.
    """
    return _load(Path(run), device)[0]


def load_distilled(run: Run, teacher_checksum: str) -> tuple[Student, dict[str, Any]]:
    """The student of a run and its metadata. Raises UserError if another teacher or other settings made it."""
    student, metadata = _load(run.folder, run.device)
    wanted = settings(run) | {"teacher": teacher_checksum}
    run.require_same(run / FILE, {key: metadata["settings"][key] for key in wanted}, wanted)
    return student, metadata


def _load(folder: Path, device: str | torch.device) -> tuple[Student, dict[str, Any]]:
    if not (folder / FILE).exists():
        raise UserError(f"{folder / FILE}: no such file; train a student first (train_student.py)")
    tensors, metadata = artifact.load(folder / FILE)
    student = Student(Architecture(**metadata["architecture"]), metadata["alpha_floor"], metadata["classes"])
    student.network.load_state_dict(tensors)
    return student.to(device).eval().requires_grad_(False), metadata
