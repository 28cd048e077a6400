"""Distil the teacher's distribution (of MC-dropout, or an ensemble) into a student that gives it in one pass.

    python train_student.py                                                     # configs/digits.yaml
    python train_student.py --config configs/cifar10_cpu.yaml --student.lr 2e-4 --overwrite

Reads runs/<name>/teacher.safetensors; writes runs/<name>/mc_samples/ (what the teacher does on views of the training images,
made once) and runs/<name>/student.safetensors. The same command again continues or skips; --overwrite trains the student anew.
"""

from dataclasses import replace
from typing import get_args

import torch
import torch.nn.functional as F
from torch import nn

import data
from configs.schema import Config
from data.dataset import Dataset
from data.views import batch_of, make_views
from methods import student, student_method, teacher
from methods.interface import Context, Matched
from methods.student import Student, parameter_groups
from models.inference import outputs_of
from training import cli, process_group
from training.errors import UserError
from training.loop import Task, fit
from training.run import begin
from training.seeds import seed_of
from uncertainty.cache import SampleCache
from uncertainty.samples import STATISTICS


def main(config: Config, overwrite: bool) -> None:
    """Teacher, samples, student, training."""
    run, compute = begin(config, "student", overwrite)

    # Data and teacher.
    trained = teacher.load_teacher(config, compute)
    method = student_method(config.student.method)
    method.read_options(config.student)  # before anything is sampled for nothing
    if method.functions and config.sampling.masks != "function":
        raise UserError(f"student.method: {config.student.method} imitates fixed functions of the teacher: set sampling.masks: function")
    train, validation = data.load_train(config.data, config.split_seed, config.teacher.train_on_all)
    settings = student.settings(config) | {"teacher": trained.checksum, "data": train.fingerprint(), "dtype": compute.dtype}
    finished = run.finished(student.FILE, settings)
    run.save_config(config)
    if finished:
        return

    # Samples: what the teacher does on each view of the training images, made once.
    cache = SampleCache(config, run, compute, trained.sampler(config.teacher.method), trained.checksum)
    train = train.to(compute.device)
    views = make_views(config.sampling.views, train.images, config.data.augmentation, config.seed)
    keep = config.sampling.keep_samples or method.singly
    samples = [cache.get(train, "train", view, config.sampling, keep) for view in views]
    kept = [*STATISTICS, "log_probs"] if method.singly else STATISTICS
    targets = {name: torch.stack([view[name] for view in samples]).to(compute.device) for name in kept}
    if validation:
        validation = validation.to(compute.device)
        plain = make_views(["plain"], validation.images, config.data.augmentation, config.seed)[0]
        many = config.sampling if method.functions else replace(config.sampling, passes=config.evaluation.passes)
        validation_samples = cache.get(validation, "train", plain, many, keep)
        validation_targets = {name: validation_samples[name].to(compute.device) for name in kept}
        validation_targets["labels"] = one_hot(validation)

    # Model.
    torch.manual_seed(seed_of(config.seed, "student", config.student.seed))
    model, copied = student.new_student(config, trained.network, train)
    if config.student.init == "teacher":
        run.log(f"starts from the teacher: {copied} of {len(model.network.state_dict())} tensors fit")
    model.to(compute.device)

    # Loss and validation. In each epoch an image is seen in one of its views, in the next epoch in its next one.
    offset = torch.randint(len(views), (len(train),))
    spread = {name: targets[name].std().item() for name in get_args(Matched)}
    all_labels = one_hot(train)

    def batch(indices: torch.Tensor, epochs: float):
        number, order = ((offset[indices] + int(epochs)) % len(views)).sort()
        images, labels = batch_of(views, number, indices[order], all_labels)
        wanted = {name: value[number, indices[order]] for name, value in targets.items()}
        return images, wanted | {"labels": labels}, epochs / config.student.epochs

    def losses(parallel: nn.Module, batch):
        images, wanted, progress = batch
        return {"loss": method.loss(parallel(images), wanted, Context(spread, progress, model.options, model.network))}

    def validate(model: Student):
        distribution = model.distribution(outputs_of(model.outputs, validation.images, compute))
        loss = method.loss(distribution, validation_targets, Context(spread, 1.0, model.options, model.network)).item()
        return {"loss": loss, "score": -loss}

    # Loop and save.
    optimizer = torch.optim.AdamW(parameter_groups(model, config.student), config.student.lr, fused=True)
    check = validate if validation else None
    task = Task(model, optimizer, len(train), batch, losses, config.student, settings, check, config.student.averaging)
    progress = fit(task, run, compute)
    if process_group.is_first():
        metadata = {"settings": settings, "sampling_seconds": cache.seconds, **vars(progress)}
        model.save(run / student.FILE, metadata, config.weights)
    process_group.barrier()
    run.log(f"wrote {run / student.FILE} after {progress.seconds:.0f} s of training")


def one_hot(dataset: Dataset) -> torch.Tensor:
    """Labels as probabilities [N, C]."""
    return F.one_hot(dataset.labels, len(dataset.classes)).float()


if __name__ == "__main__":
    cli.main(main, __doc__)
