"""Distil the teacher's distribution (from MC-dropout or an ensemble) into a student that gives it in one pass.

    python train_student.py                                                     # configs/digits.yaml
    python train_student.py --config configs/cifar10_cpu.yaml --student.lr 2e-4 --overwrite

Reads runs/<name>/teacher.safetensors; writes runs/<name>/mc_samples/ (the teacher's samples on views of the training
images, made once) and runs/<name>/student.safetensors. The same command again continues or skips; --overwrite trains
the student anew. docs/configs.md lists the options of each method.
"""

from configs.start import before_imports

if __name__ == "__main__":
    before_imports(__doc__, shown=("data", "sampling", "student"))

from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor

import data
from configs import cli, recipe
from configs.errors import UserError
from configs.schema import Config
from data import Images
from data.dataset import Dataset
from data.loading import loader
from data.views import View, by_view, make_views
from methods import student, student_method, teacher
from methods.interface import Matched, Targets
from methods.student import Student, parameter_groups
from methods.teacher import Teacher
from models.external import UNKNOWN
from models.inference import outputs_of
from training import process_group, script
from training.compute import Compute, choose
from training.run import Run, begin, made_anew
from training.seeds import seed_of
from training.state import State
from uncertainty.any_network import PlainLoop
from uncertainty.cache import SampleCache
from uncertainty.mc_dropout import Sampler
from uncertainty.samples import STATISTICS
from uncertainty.self_check import PASSES

FEW = 50  # images that the teacher is checked on


def main(config: Config, overwrite: bool = False) -> None:
    """Load the teacher and the images, then distil."""
    config = teacher.as_trained(config)
    trained = teacher.load_teacher(config, choose(config.device, config.dtype))
    student.check(config)  # before images are decoded, which takes time
    train, validation = data.load_train(config.data, config.split_seed, config.teacher.train_on_all)
    trained.require_same_data(train, config.student.other_images)
    if config.sampling.held_out:
        if validation is None:
            raise UserError("sampling.held_out: no images are held out; set teacher.train_on_all: false")
        train, validation = train.joined(validation, config.sampling.held_out), None
    distil(trained, train, validation, config=config, overwrite=overwrite)


def distil(
    trained: Teacher,
    images: Images,
    validation: Images | None = None,
    *,
    views: list[str] | None = None,
    config: Config | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Student:
    """Sample a teacher, train a student and return it. The files go to the folder of the config's run: runs/distilled.

        teacher = Teacher.from_module(network, mean, std, size=224, classes=["cat", "dog"])
        student = distil(teacher, "photos/", views=["plain", "augmented"], epochs=8)

    images: a data set, a torch.utils.data.Dataset of (image, label), or a folder. validation: images that choose the
    best epoch; without them the last one is kept. views: default `sampling.views` of the config. settings: those of the
    student (`configs.schema.StudentSettings`) by name. The same call again continues, or returns the finished one.
    Raises UserError for an unknown setting, and for images that do not fit the teacher.
    """
    a = trained.architecture
    changes = {"data": {"size": a.size, "channels": a.channels, "resize": a.resize}, "student": settings}
    if views is not None:
        changes["sampling"] = {"views": views}
    config = cli.override(config or Config(name="distilled"), changes, "distil")
    train, validation = (
        of if of is None or isinstance(of, Dataset) else data.dataset_of(of, config.data, trained.classes)
        for of in (images, validation)
    )
    if len(train) < 2:
        raise UserError(f"{train.name}: a student needs two images or more")
    student.check(config)
    config = replace(config, student=recipe.for_student(config.student, len(train), max(a.shape[:2])))

    run, compute = begin(config, "student")
    for network in trained.networks:
        network.to(compute.device)
    made_by = student.settings(config)
    made_by |= {"teacher": trained.checksum, "data": train.fingerprint, "dtype": compute.dtype}
    with made_anew([run.checkpoint, run / student.FILE], overwrite):
        if not run.finished(student.FILE, made_by, overwrite):
            run.save_config(config)
            which = {train.fingerprint: "these images", UNKNOWN: "unknown images"}.get(trained.data, "other images")
            run.log(f"{len(train)} images of {train.name}; the teacher was trained on {which} ({trained.data})")
            train_student(trained, train, validation, config, compute, run, made_by)
    return student.load_distilled(config, compute, trained)


def train_student(
    trained: Teacher,
    train: Dataset,
    validation: Dataset | None,
    config: Config,
    compute: Compute,
    run: Run,
    settings: dict,
) -> None:
    """Sample the teacher on views of the images, train the student by the method's loss with AdamW, and write its file.

    The epoch with the lowest loss on the validation images is kept; without any, the last one.
    """
    # The teacher's samples on each view of the training images, made once, and on the unchanged validation images.
    samplers = trained.samplers(config.teacher.method)
    if isinstance(samplers[0], (Sampler, PlainLoop)):
        tell_check(trained, train, run, compute)
    cache = SampleCache(config.source, run, compute, samplers, trained.checksum, config.seed)
    other = data.load(config.sampling.other, "train", config.data) if config.sampling.other else None
    kinds = config.sampling.views
    views = make_views(kinds, train, config.data.augmentation, config.seed, compute.device, other)
    method = student_method(config.student.method, config.student.options)
    if method.needs_labels:
        data.require_labels(train, "training")
    needed = [*STATISTICS, "log_probs"] if method.needs_samples else STATISTICS

    def samples_on(view: View, passes: int) -> dict[str, Tensor]:
        samples = cache.get("train", view, replace(config.sampling, passes=passes))
        return {name: samples[name] for name in needed}

    samples = [samples_on(view, config.sampling.passes) for view in views]
    if validation:
        (plain,) = make_views(["plain"], validation, None, config.seed, compute.device)
        passes = config.sampling.passes if method.needs_functions else config.evaluation.passes
        checked = samples_on(plain, passes)
    deviation = {name: torch.stack([of_view[name] for of_view in samples]).std().item() for name in get_args(Matched)}

    # The student, and its training: each epoch shows each image in one of its views, the next epoch in the next view.
    # It begins with the first view of one of the kinds: so a batch has all kinds, but few views, which is faster.
    torch.manual_seed(seed_of(config.seed, "student", config.student.seed))
    model, copied = student.new_student(config.student, config.teacher, trained, train)
    if config.student.init == "teacher":
        run.log(f"starts from the teacher: {copied} of {len(model.network.state_dict())} tensors fit")
    model = model.to(compute.device)
    begins = torch.tensor([kinds.index(kind) for kind in dict.fromkeys(kinds)])
    first = begins[torch.randint(len(begins), (len(train),))]
    optimizer = torch.optim.AdamW(parameter_groups(model, config.student), config.student.lr, fused=True)
    state = State(model, optimizer, config.student, len(train), config.student.averaging)

    for epoch in state.epochs(run, settings):
        batches = [by_view(indices, (first[indices] + epoch) % len(views)) for indices in state.batches(epoch)]
        pixels = loader(lambda batch: [views[v].pixels(part) for v, part in batch], batches, train.lazy)
        for step, (batch, pixels_of_views) in enumerate(zip(batches, pixels, strict=True)):
            inputs = torch.cat(
                [views[v].images(i, raw).float() for (v, i), raw in zip(batch, pixels_of_views, strict=True)]
            )
            progress = (epoch + step / len(batches)) / config.student.epochs
            sampled = {name: torch.cat([samples[v][name][part] for v, part in batch]) for name in needed}
            labels = torch.cat([views[v].labels(part) for v, part in batch])
            targets = targets_at(sampled, labels, deviation, progress, compute.device)
            with compute.autocast():
                loss = method.loss(state.parallel(inputs), targets, model.network)
            state.step(loss)
        if validation:
            kept = state.kept()
            distribution = kept.distribution(outputs_of(kept.outputs, validation, compute))
            labels = plain.labels(torch.arange(len(validation)))
            targets = targets_at(checked, labels, deviation, 1.0, compute.device)
            loss = method.loss(distribution, targets, kept.network).item()
            state.validated(loss=loss, score=-loss)

    if process_group.is_first():
        about = {"sampling_seconds": cache.seconds, "history": state.history, "seconds": state.seconds}
        model.save(run / student.FILE, {"settings": settings, **about}, config.weights)
    process_group.barrier()
    run.log(f"wrote {run / student.FILE} after {state.seconds:.0f} s of training")


def targets_at(
    samples: dict[str, Tensor], labels: Tensor, deviation: dict[str, float], progress: float, device: torch.device
) -> Targets:
    """The targets of a batch on the device, from the teacher's samples on it."""
    tensors = {name: tensor.to(device) for name, tensor in (samples | {"labels": labels}).items()}
    return Targets(**tensors, deviation=deviation, progress=progress)


def tell_check(trained: Teacher, train: Dataset, run: Run, compute: Compute) -> None:
    """Log what is random in a dropout teacher, how it is sampled and at what cost. If that is low (dropout in the last
    layer alone), log that no student is needed."""
    check = trained.check(train.batch(torch.arange(min(FEW, len(train)))).to(compute.device), compute.autocast)
    for line in str(check).splitlines():
        run.log(line)
    if check.cost < PASSES / 5:
        saved = (run / teacher.FILE).exists()
        how = f"predict.py --run {run.folder} --teacher-passes {PASSES}" if saved else "teacher(images)"
        run.log(f"this teacher needs no student: {how} gives the same at that cost")


if __name__ == "__main__":
    script.main(main)
