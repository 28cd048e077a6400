"""Train the teacher: a network whose dropout, left on at test time, gives a distribution of class probabilities; or an
ensemble.

    python train_teacher.py                                                     # configs/digits.yaml
    python train_teacher.py --config configs/cifar10_cpu.yaml --teacher.epochs 30

Writes runs/<name>/teacher.safetensors (an ensemble: runs/<name>/member<k>/teacher.safetensors). The same command again
continues or skips; --overwrite starts anew.
"""

import training  # noqa: F401  # isort: skip  # first: Ctrl-C during the other imports then prints one line
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import data
from configs.schema import Config, Teacher
from data.augment import augment, draw
from data.dataset import Dataset
from methods import teacher
from models.architecture import start_as_identity
from models.inference import outputs_of
from models.networks import build
from models.own import UNKNOWN, load_weights
from training import artifact, cli, process_group
from training.compute import Compute
from training.loop import Progress, Task, decay_groups, fit
from training.outside import digest_of, file_of
from training.run import begin
from training.seeds import seed_of


def main(config: Config, overwrite: bool) -> None:
    """Train the single network, or the members of an ensemble one after another."""
    members = teacher.members(config)
    run, compute = begin(config, "teacher", overwrite)
    if config.teacher_of is not None:
        teacher.load_teacher(config, compute)
        run.save_config(config)
        run.end()
        run.log(f"the teacher of {config.source} is used: nothing to train")
        return
    for number, member in enumerate(members.values(), 1):
        if len(members) > 1:
            run.save_config(config)
            run.log(f"network {number} of {len(members)}")
        train_network(member, overwrite and run.lacks(member.folder / teacher.FILE))
    run.end()


def train_network(config: Config, overwrite: bool) -> None:
    """Load the data, train the network, and write the file that the other scripts read."""
    run, compute = begin(config, "teacher", overwrite)

    # Data.
    train, validation = data.load_train(config.data, config.split_seed, config.teacher.train_on_all)
    architecture = teacher.architecture(config, len(train.classes))
    settings = teacher.settings(config) | {"data": train.fingerprint, "dtype": compute.dtype}
    if config.teacher.weights:
        settings |= {"data": UNKNOWN, "weights": digest_of(Path(config.teacher.weights))}
    finished = run.finished(teacher.FILE, settings)
    run.save_config(config)
    if finished:
        return
    if config.compared_on == "test":  # a missing data set stops the run here, not after training
        data.load_evaluation(config.data, train.classes, config.split_seed)

    # Build the network, train it (or load trained weights), write the file.
    torch.manual_seed(config.seed)
    model = build(architecture)
    if config.teacher.identity_start:
        start_as_identity(model)
    teacher.standardize(model, config.teacher, train)
    task = classification_task(model.to(compute.device), train, validation, config, compute)
    if config.teacher.weights:
        load_weights(model.module, Path(config.teacher.weights))
        progress = Progress()
        if validation:
            found = task.validate(model.eval())
            run.log(
                f"{config.teacher.weights}: accuracy {found['accuracy']:.4g} on {len(validation)} validation images"
            )
    else:
        progress = fit(task, run, compute, settings)
    if process_group.is_first():
        metadata = {
            "settings": settings,
            "architecture": asdict(architecture),
            "classes": train.classes,
            **vars(progress),
        }
        artifact.save(run / teacher.FILE, "teacher", model.state_dict(), metadata, config.weights)
        if architecture.digest:
            file = file_of(architecture.network)
            artifact.write_text(run / file.name, file.read_text(encoding="utf-8"))
    process_group.barrier()
    run.end()
    run.log(f"wrote {run / teacher.FILE} after {progress.seconds:.0f} s of training")


def classification_task(
    model: nn.Module, train: Dataset, validation: Dataset | None, config: Config, compute: Compute
) -> Task:
    """The task: cross-entropy with the labels of augmented images, by SGD. The score is the accuracy on the validation
    images."""

    changes = config.data.augmentation
    first = (
        torch.rand(len(train), generator=torch.Generator().manual_seed(seed_of(config.seed, "flips"))) < 0.5
    )  # mirrored at first

    def batch(indices: Tensor, epochs: float):
        return train.batch(indices), train.labels[indices], first[indices] ^ (int(epochs) % 2 == 1)

    def losses(model: nn.Module, batch):
        images, labels = (part.to(compute.device) for part in batch[:2])
        draws = draw(len(images), changes)
        if changes.flip == "alternating":
            draws.flip = batch[2]
        with torch.autocast(compute.device.type, enabled=False):
            images = augment(images, draws)
        logits = model(images).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=config.teacher.label_smoothing)
        return {"loss": loss, "accuracy": (logits.argmax(1) == labels).float().mean()}

    def validate(model: nn.Module):
        logits, labels = outputs_of(model, validation, compute), validation.labels.to(compute.device)
        accuracy = (logits.argmax(1) == labels).float().mean().item()
        return {"loss": F.cross_entropy(logits, labels).item(), "accuracy": accuracy, "score": accuracy}

    own = config.teacher
    optimizer = torch.optim.SGD(
        parameter_groups(model, own), own.lr, own.momentum, nesterov=own.momentum > 0, fused=True
    )
    return Task(
        model, optimizer, len(train), batch, losses, own, validate if validation else None, workers=train.workers
    )


def parameter_groups(model: nn.Module, settings: Teacher) -> list[dict[str, Any]]:
    """Groups for the optimizer: kernels and matrices; other parameters; with `shift_lr`, batch norm's shifts."""
    shifts = [layer.bias for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)] if settings.shift_lr else []
    taken = {id(p) for p in shifts}
    groups = decay_groups(
        [p for p in model.parameters() if p.requires_grad and id(p) not in taken], settings.weight_decay
    )
    return [*groups, {"params": shifts, "lr": settings.shift_lr, "weight_decay": 0.0}] if shifts else groups


if __name__ == "__main__":
    cli.main(main, __doc__, shown=("data", "teacher"))
