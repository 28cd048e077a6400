"""Train the teacher: a network whose dropout, left on at test time, gives a distribution of class probabilities.

    python train_teacher.py                                                     # configs/digits.yaml
    python train_teacher.py --config configs/cifar10_cpu.yaml --teacher.epochs 30

Or an ensemble of networks. Writes runs/<name>/teacher.safetensors (an ensemble:
runs/<name>/member<k>/teacher.safetensors). The same command again continues or skips; --overwrite starts anew.
"""

from configs.start import before_imports

if __name__ == "__main__":
    before_imports(__doc__, shown=("data", "teacher"))

from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import data
from configs import recipe
from configs.schema import Config, TeacherSettings
from data.augment import augment, draw_changes
from data.dataset import Dataset
from data.loading import loader
from methods import teacher
from models.architecture import start_as_identity
from models.external import UNKNOWN, External, load_weights
from models.inference import outputs_of
from models.networks import build
from training import artifact, process_group, script
from training.compute import Compute
from training.external import digest_of, file_of
from training.run import Run, begin, made_anew
from training.seeds import seed_of
from training.state import State, decay_groups
from uncertainty.classification import chance_warning
from uncertainty.self_check import require_fit


def main(config: Config, overwrite: bool = False) -> None:
    """Train the single network, or the members of an ensemble one after another."""
    members = teacher.members(config)
    run, compute = begin(config, "teacher")
    if config.rows:
        run.log("the config's rows are for compare.py; this script trains a teacher by its other settings")
    if config.teacher_of is not None:
        teacher.load_teacher(config, compute)
        run.save_config(teacher.as_trained(config))
        run.log(f"the teacher of {config.source} is used: nothing to train")
        return
    outputs = [
        member.folder / file
        for member in members.values()
        for file in ("checkpoints/teacher.safetensors", teacher.FILE)
    ]
    with made_anew(outputs, overwrite):
        if len(members) == 1:
            train(config, overwrite)
            return
        for number, member in enumerate(members.values(), 1):
            run.save_config(config)
            train(member, overwrite, f"network {number} of {len(members)}: ")
        run.save_config(teacher.as_trained(config))  # with what was chosen


def train(config: Config, overwrite: bool = False, which: str = "") -> None:
    """Load the data, train one network, and write the file that the other scripts read. which: for the log."""
    run, compute = begin(config, "teacher", which)
    images, validation = data.load_train(config.data, config.split_seed, config.teacher.train_on_all)
    given, chosen = config.teacher, recipe.for_teacher(config.teacher, len(images), max(config.data.shape[:2]))
    config = replace(config, teacher=chosen)
    architecture = teacher.architecture(config.teacher, config.data, len(images.classes))
    settings = teacher.settings(config) | {"data": images.fingerprint, "dtype": compute.dtype}
    if config.teacher.weights:
        settings |= {"data": UNKNOWN, "weights": digest_of(Path(config.teacher.weights))[:16]}
    if run.finished(teacher.FILE, settings, overwrite):
        return
    run.save_config(config)
    if chosen != given and not given.weights:
        values = [f"{name} {value}" for name, value in asdict(chosen).items() if value != getattr(given, name)]
        run.log(f"chosen for {len(images)} images of {config.data.size} pixels: {', '.join(values)}")
    if config.compared_on == "test":  # a missing data set stops the run here, not after training
        test, *_ = data.load_evaluation(config.data, images.classes, config.split_seed)
        if twice := data.shared(images, test):
            run.log(f"{twice} of {len(test)} test images are also in train (equal pixels): results are too good")

    torch.manual_seed(config.seed)
    model = build(architecture)
    if config.teacher.identity_start:
        start_as_identity(model)
    teacher.standardize(model, config.teacher, images)
    model = model.to(compute.device)
    if config.teacher.weights:
        load_weights(model.module, Path(config.teacher.weights))
    if isinstance(model, External):
        require_fit(model, model.some_images())
    progress = {"history": [], "seconds": 0.0}
    if not config.teacher.weights:
        progress = fit(model, images, validation, config, compute, run, settings)
    quality = ""
    if validation:
        reached = scores(model.eval(), validation, compute)
        quality = "; accuracy {accuracy:.4g}, loss {loss:.4g} on the validation images".format(**reached)
        if warning := chance_warning(reached["accuracy"], reached["loss"], validation.labels.numpy()):
            run.log(f"WARNING: {warning}")

    if process_group.is_first():
        metadata = {"settings": settings, "architecture": asdict(architecture), "classes": images.classes, **progress}
        artifact.save(run / teacher.FILE, "teacher", model.state_dict(), metadata, config.weights)
        if architecture.digest:
            file = file_of(architecture.network)
            artifact.write_text(run / file.name, file.read_text(encoding="utf-8"))
    process_group.barrier()
    run.log(f"wrote {run / teacher.FILE} after {progress['seconds']:.0f} s of training{quality}")


def fit(
    model: nn.Module,
    images: Dataset,
    validation: Dataset | None,
    config: Config,
    compute: Compute,
    run: Run,
    settings: dict,
) -> dict:
    """Train by SGD: cross-entropy with the labels of augmented images. Returns the history and the seconds that it
    took.

    The epoch with the best accuracy on the validation images is kept; without any, the last one.
    """
    optimizer = torch.optim.SGD(
        parameter_groups(model, config.teacher),
        config.teacher.lr,
        config.teacher.momentum,
        nesterov=config.teacher.momentum > 0,
        fused=True,
    )
    state = State(model, optimizer, config.teacher, len(images))
    changes = config.data.augmentation
    flips = torch.Generator().manual_seed(seed_of(config.seed, "flips"))
    mirrored = torch.rand(len(images), generator=flips) < 0.5  # in the first epoch; alternating after it

    for epoch in state.epochs(run, settings):
        batches = state.batches(epoch)
        for indices, pixels in zip(batches, loader(images.batch, batches, images.lazy), strict=True):
            labels = images.labels[indices].to(compute.device)
            draws = draw_changes(len(indices), changes)
            if changes.flip == "alternating":
                draws.flip = mirrored[indices] ^ (epoch % 2 == 1)
            inputs = augment(pixels.to(compute.device), draws)
            with compute.autocast():
                logits = state.parallel(inputs).float()
                loss = F.cross_entropy(logits, labels, label_smoothing=config.teacher.label_smoothing)
            state.step(loss, accuracy=(logits.argmax(1) == labels).float().mean())
        if validation:
            state.validated(**scores(state.kept(), validation, compute))
    return {"history": state.history, "seconds": state.seconds}


def scores(model: nn.Module, validation: Dataset, compute: Compute) -> dict[str, float]:
    """Loss and accuracy on the validation images; the accuracy is the score that chooses the best epoch."""
    logits, labels = outputs_of(model, validation, compute), validation.labels.to(compute.device)
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return {"loss": F.cross_entropy(logits, labels).item(), "accuracy": accuracy, "score": accuracy}


def parameter_groups(model: nn.Module, settings: TeacherSettings) -> list[dict]:
    """Groups for the optimizer: kernels and matrices; other parameters; with `shift_lr`, batch norm's shifts."""
    shifts = [layer.bias for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)] if settings.shift_lr else []
    shift_ids = {id(p) for p in shifts}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in shift_ids]
    groups = decay_groups(others, settings.weight_decay)
    return [*groups, {"params": shifts, "lr": settings.shift_lr, "weight_decay": 0.0}] if shifts else groups


if __name__ == "__main__":
    script.main(main)
