"""Distil the teacher's distribution (from MC-dropout or an ensemble) into a student that gives it in one pass.

    python train_student.py                                                     # configs/digits.yaml
    python train_student.py --config configs/cifar10_cpu.yaml --student.lr 2e-4 --overwrite

Reads runs/<name>/teacher.safetensors; writes runs/<name>/mc_samples/ (the teacher's samples on views of the training
images, made once) and runs/<name>/student.safetensors. The same command again continues or skips; --overwrite trains
the student anew.
"""

import training  # noqa: F401  # isort: skip  # first: Ctrl-C during the other imports then prints one line
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor, nn

import data
from configs.schema import Config, Sampling
from data import Images
from data.dataset import Dataset
from data.views import View, make_views
from methods import options_help, student, student_method, teacher
from methods.interface import Context, Matched, StudentMethod
from methods.student import Student, parameter_groups
from methods.teacher import Teacher
from models.inference import outputs_of
from models.own import UNKNOWN
from training import cli, process_group
from training.compute import Compute, choose
from training.loop import Task, fit
from training.run import Run, begin
from training.seeds import seed_of
from uncertainty.any_network import PlainLoop, cost_in_passes
from uncertainty.cache import SampleCache
from uncertainty.mc_dropout import Sampler
from uncertainty.samples import STATISTICS

FEW = 50  # number of images, and of passes, that measure the cost of sampling


def main(config: Config, overwrite: bool) -> None:
    """Load the teacher and the images, then distil."""
    trained = teacher.load_teacher(config, choose(config.device, config.dtype))
    student_method(config.student.method).check(config)  # before images are decoded, which takes time
    train, validation = data.load_train(config.data, config.split_seed, config.teacher.train_on_all)
    trained.require_same_data(train, config)
    distil(trained, train, validation, config=config, overwrite=overwrite)


def distil(
    trained: Teacher,
    images: Images,
    validation: Dataset | None = None,
    *,
    views: list[str] | None = None,
    config: Config | None = None,
    overwrite: bool = False,
) -> Student:
    """Sample a teacher, train a student and return it. The files go to the folder of the config's run, by default
    runs/distilled.

        teacher = Teacher.from_module(network, mean, std, size=224, classes=["cat", "dog"])
        student = distil(teacher, "photos/", views=["plain", "augmented"])

    images: a data set, a torch.utils.data.Dataset of (image, label), or a folder. validation: images that choose the
    best epoch; without them the last one is kept. views: default `sampling.views` of the config. The same call again
    continues, or returns the finished one.
    """
    config = config or Config(name="distilled")
    a = trained.architecture
    config = replace(config, data=replace(config.data, size=a.size, channels=a.channels, resize=a.resize))
    if views is not None:
        config = replace(config, sampling=replace(config.sampling, views=views))
    train = images if isinstance(images, Dataset) else data.dataset_of(images, config.data, trained.classes)
    method = student_method(config.student.method)
    method.check(config)

    run, compute = begin(config, "student", overwrite)
    settings = student.settings(config) | {
        "teacher": trained.checksum,
        "data": train.fingerprint,
        "dtype": compute.dtype,
    }
    which = {train.fingerprint: "these images", UNKNOWN: "unknown images"}.get(trained.data, "other images")
    run.log(f"{len(train)} images of {train.name}; the teacher was trained on {which} ({trained.data})")
    finished = run.finished(student.FILE, settings)
    run.save_config(config)
    if finished:
        return student.load_distilled(config, compute, trained)[0]

    # The teacher's samples on each view of the training images, made once, and on the unchanged validation images.
    samplers = trained.samplers(config.teacher.method)
    if isinstance(samplers[0], (Sampler, PlainLoop)):
        tell_cost(samplers[0], trained, train, run, compute)
    cache = SampleCache(config, run, compute, samplers, trained.checksum)
    other = data.load(config.sampling.other, "train", config.data) if config.sampling.other else None
    views = make_views(config.sampling.views, train, config.data.augmentation, config.seed, compute.device, other)
    learnt = sampled(cache, views, config.sampling, method)
    checked = None
    if validation:
        plain = make_views(["plain"], validation, config.data.augmentation, config.seed, compute.device)
        many = config.sampling if method.shared_masks else replace(config.sampling, passes=config.evaluation.passes)
        checked = sampled(cache, plain, many, method)

    # Make the student, train it and write its file.
    torch.manual_seed(seed_of(config.seed, "student", config.student.seed))
    model, copied = student.new_student(config, trained, train)
    if config.student.init == "teacher":
        run.log(f"starts from the teacher: {copied} of {len(model.network.state_dict())} tensors fit")
    progress = fit(
        distillation_task(model.to(compute.device), learnt, checked, config, compute), run, compute, settings
    )
    if process_group.is_first():
        metadata = {"settings": settings, "sampling_seconds": cache.seconds, **vars(progress)}
        model.save(run / student.FILE, metadata, config.weights)
    process_group.barrier()
    run.end()
    run.log(f"wrote {run / student.FILE} after {progress.seconds:.0f} s of training")
    return student.load_distilled(config, compute, trained)[0]


def tell_cost(sampler: Sampler | PlainLoop, trained: Teacher, train: Dataset, run: Run, compute: Compute) -> None:
    """Log how the teacher is sampled and at what cost. If that is low (dropout in the head alone), log that no student
    is needed."""
    some = train.batch(torch.arange(min(FEW, len(train)))).to(compute.device)
    with compute.autocast():
        cost = cost_in_passes(sampler, trained.network, some, FEW)
    run.log(
        f"{len(trained.dropouts())} modules are random, sampled by {sampler}: {FEW} passes take as long as {cost:.3g} single passes"
    )
    if cost < FEW / 10:
        run.log(
            f"this teacher needs no student: predict.py --run {run.folder} --teacher-passes {FEW} gives the same at that cost"
        )


@dataclass
class Sampled:
    """Views of a data set, and the teacher's samples on each of them.

    targets: for each view the entries of `methods.interface.Targets`, such as `mean` [N, C], memory-mapped from the
    cache's files.
    """

    views: list[View]
    targets: list[dict[str, Tensor]]


def sampled(cache: SampleCache, views: list[View], settings: Sampling, method: StudentMethod) -> Sampled:
    """Views of a data set, and the statistics (or samples) of the teacher that the method needs."""
    keep = settings.keep_samples or method.needs_samples
    samples = [cache.get(view.dataset, "train", view, settings, keep) for view in views]
    needed = [*STATISTICS, "log_probs"] if method.needs_samples else STATISTICS
    return Sampled(views, [{name: view[name] for name in needed} for view in samples])


def distillation_task(
    model: Student, learnt: Sampled, checked: Sampled | None, config: Config, compute: Compute
) -> Task:
    """The task: the method's loss, by AdamW. Each epoch shows each image in one of its views, the next epoch in the
    next view."""
    own, views = config.student, learnt.views
    train = views[0].dataset
    offset = torch.randint(len(views), (len(train),))
    spread = {name: torch.stack([view[name] for view in learnt.targets]).std().item() for name in get_args(Matched)}

    def batch(indices: Tensor, epochs: float):
        number, order = ((offset[indices] + int(epochs)) % len(views)).sort()
        present, counts = number.unique_consecutive(return_counts=True)
        parts = list(zip(present.tolist(), indices[order].split(counts.tolist())))
        pixels = [views[v].pixels(part) for v, part in parts]
        wanted = {name: torch.cat([learnt.targets[v][name][part] for v, part in parts]) for name in learnt.targets[0]}
        wanted["labels"] = torch.cat([views[v].labels(part) for v, part in parts])
        return parts, pixels, wanted, epochs / own.epochs

    def losses(parallel: nn.Module, batch):
        parts, pixels, wanted, progress = batch
        images = torch.cat([views[v].images(part, raw).float() for (v, part), raw in zip(parts, pixels)])
        wanted = {name: value.to(compute.device) for name, value in wanted.items()}
        return {
            "loss": model.method.loss(parallel(images), wanted, Context(spread, progress, model.options, model.network))
        }

    def validate(kept: Student):
        (plain,), (targets,) = checked.views, checked.targets
        distribution = kept.distribution(outputs_of(kept.outputs, plain.dataset, compute))
        wanted = targets | {"labels": plain.labels(torch.arange(len(plain.dataset)))}
        wanted = {name: value.to(compute.device) for name, value in wanted.items()}
        loss = kept.method.loss(distribution, wanted, Context(spread, 1.0, kept.options, kept.network)).item()
        return {"loss": loss, "score": -loss}

    optimizer = torch.optim.AdamW(parameter_groups(model, own), own.lr, fused=True)
    return Task(
        model, optimizer, len(train), batch, losses, own, validate if checked else None, own.averaging, train.workers
    )


if __name__ == "__main__":
    cli.main(main, f"{__doc__}\n{options_help()}", shown=("data", "sampling", "student"))
