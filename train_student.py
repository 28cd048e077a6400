"""Distil the teacher's MC-dropout distribution into a student that gives it in one pass.

    python train_student.py --config configs/digits.yaml
    python train_student.py --config configs/cifar10.yaml --student.lr 0.01 --overwrite

Reads runs/<name>/teacher.safetensors; writes runs/<name>/mc_samples/ (what the teacher does on views of the training images,
made once) and runs/<name>/student.safetensors. The same command again continues or skips; --overwrite trains the student anew.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F

import data
from configs import cli
from configs.errors import UserError
from configs.run import Run
from configs.schema import Config
from configs.seeds import seed_of
from data.views import make_views
from models import student, teacher
from models.architecture import Architecture
from models.inference import outputs_of
from models.methods import student_method
from models.methods.interface import Context
from models.student import Student, parameter_groups
from models.training import fit, shuffled, steps_in
from uncertainty.cache import SampleCache
from uncertainty.distribution import entropy
from uncertainty.samples import STATISTICS


def main(config: Config, overwrite: bool) -> None:
    """Teacher, samples, student, training."""
    run = Run(config, "student", overwrite)

    # Data and teacher.
    trained = teacher.load_teacher(run)
    method = student_method(config.student.method)
    options = method.read_options(config.student)
    if method.functions and config.sampling.masks != "function":
        raise UserError(f"student.method: {config.student.method} imitates fixed functions of the teacher: set sampling.masks: function")
    train, validation = data.load_train(config.data, config.split_seed, config.teacher.train_on_all)
    settings = student.settings(run) | {"teacher": trained.checksum, "data": train.fingerprint(), "dtype": run.dtype}
    if run.finished(student.FILE, settings):
        return

    # Samples: what the teacher does on each view of the training images, made once.
    cache = SampleCache(run, trained.sampler(config.teacher.method), trained.checksum)
    train = train.to(run.device)
    views = make_views(config.sampling.views, train.images, config.data.augmentation, config.seed)
    samples = [cache.get(train, "train", view, config.sampling, config.sampling.keep_samples) for view in views]
    kept = [name for name in (*STATISTICS, "log_probs") if name in samples[0]]
    targets = {name: torch.stack([view[name] for view in samples]).to(run.device) for name in kept}
    if validation:
        validation = validation.to(run.device)
        plain = make_views(["plain"], validation.images, config.data.augmentation, config.seed)[0]
        many = config.sampling if method.functions else replace(config.sampling, passes=config.evaluation.passes)
        validation_samples = cache.get(validation, "train", plain, many, config.sampling.keep_samples)
        validation_targets = {name: validation_samples[name].to(run.device) for name in kept}
        validation_targets["labels"] = F.one_hot(validation.labels, len(train.classes)).float()

    # Model.
    torch.manual_seed(seed_of(config.seed, "student", config.student.seed))
    dropout = (config.teacher.conv_dropout, config.teacher.head_dropout) if config.student.propagation else ()
    architecture = Architecture(
        config.student.network,
        config.student.width,
        config.data.size,
        config.data.channels,
        len(train.classes),
        *dropout,
        heads=method.heads(options),
    )
    model = Student(architecture, replace(config.student), train.classes)
    model.network.normalize.fit(train.images)
    if config.student.init == "teacher":
        copied = model.init_from(trained.network)
        run.log(f"starts from the teacher: {copied} of {len(model.network.state_dict())} tensors fit")
    if config.student.propagation and not model.fixed_norm:
        raise UserError("student.propagation: only for a student of the teacher's own architecture, init and batch_norm")
    model.to(run.device)

    # Loss and validation. In each epoch an image is seen in one of its views, in the next epoch in its next one.
    offset = torch.randint(len(views), (len(train),))
    spread = {name: targets[name].std().item() for name in config.student.matched}

    steps = steps_in(len(train), config.student.batch_size)
    one_hot = F.one_hot(train.labels, len(train.classes)).float()

    def batches(epoch: int):
        for step, indices in enumerate(shuffled(len(train), config.student.batch_size)):
            number, order = ((offset[indices] + epoch) % len(views)).sort()
            indices = indices[order]
            present, counts = number.unique(return_counts=True)
            parts = [(views[v], part) for v, part in zip(present.tolist(), indices.split(counts.tolist()))]
            images = torch.cat([view.images(part).float() for view, part in parts])
            batch = {name: value[number, indices] for name, value in targets.items()}
            batch["labels"] = torch.cat([view.labels(one_hot, part) for view, part in parts])
            yield images, batch, (epoch + step / steps) / config.student.epochs

    def losses(model: Student, batch):
        images, targets, progress = batch
        context = Context(spread, progress, options, model.network)
        return {"loss": method.loss(model(images), targets, context)}

    def validate(model: Student):
        distribution = model.learnt(outputs_of(model.outputs, validation.images, run))
        loss = method.loss(distribution, validation_targets, Context(spread, 1.0, options, model.network)).item()
        return {"loss": loss, "score": -loss}

    # Loop and save.
    optimizer = torch.optim.AdamW(parameter_groups(model, config.student), config.student.lr)
    progress = student.twin(run, model, settings) or fit(
        model, optimizer, batches, losses, validate if validation else None, steps, run, settings, config.student.averaging
    )
    model.eval()
    if validation and method.scales_information and config.student.information_scale is None:
        distribution = model.distribution(outputs_of(model.outputs, validation.images, run))
        teachers = entropy(validation_targets["mean"]) - validation_targets["expected_entropy"]
        model.settings.information_scale = (teachers.mean() / distribution.mutual_information.mean()).item()
        run.log(f"student.information_scale: {model.settings.information_scale:.3f}, fitted on the validation images")
    model.save(run / student.FILE, {"settings": settings, "sampling_seconds": cache.seconds, **vars(progress)})
    run.log(f"wrote {run / student.FILE} after {progress.seconds:.0f} s of training")


if __name__ == "__main__":
    cli.main(main, __doc__)
