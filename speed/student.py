"""What distillation saves: a student's training step without its teacher, and a prediction in one pass.

    python -m speed.student

Half-width VGG-11, teacher and student alike, random images. Writes speed/results/student.json.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from unittest import mock

import torch
from torch._inductor import config as inductor

import train_student
import train_teacher
from methods.student import load_distilled
from methods.teacher import load_teacher
from speed.contenders import PASSES, deterministic, made_up, ours, plain, random_images
from speed.measuring import Seconds, autocast, in_turn, middle, ratio, write
from training.cli import parse
from training.compute import choose
from uncertainty.distribution import measures_of
from uncertainty.mc_dropout import Sampler
from uncertainty.samples import Samples, statistics

ROUNDS = 10
TRAINING_IMAGES, STEP_IMAGES, ONLINE_PASSES = 1024, 128, 25
BATCHES = {1: 8, 32: 64, 256: 256}  # images at once: images a round
FAMILIES = {"logit_gaussian": "_gaussian", "dirichlet": ""}
COMPILED = ", compiled"  # for single images, if there is a C++ compiler

inductor.freezing = True  # as TORCHINDUCTOR_FREEZING=1 does: weights are laid out for the machine once


class Caught(Exception):
    """What a script gives its training loop."""


def trained(folder: str) -> dict[str, Callable]:
    """A teacher, and students of both families, trained for an epoch each; of the Dirichlet's script the step as well.

    Returns {"teacher": network, family: student, "<family>, compiled": student, "step": (batch) → None, "batch": (indices) → batch}.
    """
    base = ["--config", "configs/cifar10_cpu.yaml", "--runs", folder, "--teacher.epochs", "1", "--student.epochs", "1"]
    base += ["--sampling.passes", "2", "--student.batch_size", str(STEP_IMAGES)]
    found: dict[str, Callable] = {}
    with made_up(TRAINING_IMAGES):
        for family in FAMILIES:
            config, _ = parse([*base, "--name", family, "--student.method", family])
            train_teacher.main(config, overwrite=False)
            train_student.main(config, overwrite=False)
            compute = choose(config.device, config.dtype)
            teacher = load_teacher(config, compute)
            found |= {"teacher": teacher.network, family: load_distilled(config, compute, teacher.checksum)[0]}
            if shutil.which("c++"):
                found[family + COMPILED] = load_distilled(config, compute, teacher.checksum)[0]
                found[family + COMPILED].compile()

        def catch(*arguments, **_):
            raise Caught(arguments)

        config, _ = parse([*base, "--name", "caught"])
        train_teacher.main(config, overwrite=False)
        with mock.patch.object(train_student, "fit", catch):
            try:
                train_student.main(config, overwrite=True)
            except Caught as caught:
                (task, *_) = caught.args[0]

    def step(made: tuple) -> None:
        with autocast():
            loss = task.losses(task.model, made)["loss"]
        task.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        task.optimizer.step()

    task.model.train()
    return found | {"step": step, "batch": lambda indices: task.batch(indices, 0.0)}


def steps(found: dict[str, Callable], rounds: int) -> Seconds:
    """A step from the cache, and one whose teacher is sampled on the spot by the plain loop, as in the first work."""
    indices = torch.arange(STEP_IMAGES)

    def cached() -> None:
        found["step"](found["batch"](indices))

    def online() -> None:
        images, targets, progress = found["batch"](indices)
        sampled = statistics(plain(found["teacher"], images, STEP_IMAGES, ONLINE_PASSES))
        found["step"]((images, targets | sampled, progress))

    return in_turn({"cached step": cached, "online step": online}, rounds, "training step")


def predictions(found: dict[str, Callable], batch_size: int, rounds: int) -> Seconds:
    """All measures of a round's images, in batches of `batch_size`."""
    images = random_images(BATCHES[batch_size])

    def sampled(way: Callable) -> Callable[[], None]:
        def work() -> None:
            for batch in images.split(batch_size):
                measures_of(Samples(way(images=batch)))

        return work

    def student(name: str) -> None:
        with autocast(), torch.inference_mode():
            for batch in images.split(batch_size):
                measures_of(found[name](batch))

    works = {
        "plain": sampled(partial(plain, found["teacher"], batch_size=batch_size)),
        "ours": sampled(partial(ours, Sampler(found["teacher"]), batch_size=512, masks="grouped")),
        "deterministic": lambda: [deterministic(found["teacher"], batch, batch_size, passes=1) for batch in images.split(batch_size)],
    }
    compiled = [family + COMPILED for family in FAMILIES if batch_size == 1 and family + COMPILED in found]
    works |= {name: partial(student, name) for name in (*FAMILIES, *compiled)}
    return in_turn(works, rounds, f"{PASSES} passes against one, batch {batch_size}")


def main(rounds: int) -> None:
    """Training, then prediction at three batch sizes."""
    with tempfile.TemporaryDirectory() as folder:
        found = trained(folder)
        step = steps(found, rounds)
        seconds = {size: predictions(found, size, rounds) for size in BATCHES}
    ratios = {"online_over_cached_step": ratio(step, "online step", "cached step")}
    for family, suffix in FAMILIES.items():
        for size in BATCHES:
            ratios[f"plain_over_student_batch{size}{suffix}"] = ratio(seconds[size], "plain", family)
            ratios[f"ours_over_student_batch{size}{suffix}"] = ratio(seconds[size], "ours", family)
            ratios[f"student_over_deterministic_batch{size}{suffix}"] = ratio(seconds[size], family, "deterministic")
        if family + COMPILED in seconds[1]:
            ratios[f"plain_over_student_batch1_compiled{suffix}"] = ratio(seconds[1], "plain", family + COMPILED)
            ratios[f"ours_over_student_batch1_compiled{suffix}"] = ratio(seconds[1], "ours", family + COMPILED)
    write(
        "student",
        ratios,
        passes=PASSES,
        online_passes=ONLINE_PASSES,
        seconds_of_a_step={name: middle(values) for name, values in step.items()},
        seconds_of_an_image={
            size: {name: middle([value / BATCHES[size] for value in values]) for name, values in taken.items()}
            for size, taken in seconds.items()
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of every measurement")
    main(parser.parse_args().rounds)
