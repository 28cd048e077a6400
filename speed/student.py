"""The time that distillation saves: in a training step without the teacher, and in a prediction by one pass.

    python -m speed.student

Half-width VGG-11, teacher and student alike, random images. Writes speed/results/student.json.
"""

import argparse
import shutil
from collections.abc import Callable
from functools import partial

import torch
from torch._inductor import config as inductor

from methods.student import Student, for_use
from speed.contenders import PASSES, deterministic, ours, plain, random_images, student, student_task, teacher
from speed.exported import student_file, teacher_file
from speed.measuring import COMPUTE, middle, ratio, write
from uncertainty.distribution import measures_of
from uncertainty.mc_dropout import Sampler
from uncertainty.samples import Samples, statistics
from uncertainty.speed import Seconds, in_turn

ROUNDS = 10
ONLINE_PASSES = 25
BATCHES = {1: 8, 32: 64, 256: 256}  # images at once: images a round
METHODS = {"logit_gaussian": "_gaussian", "dirichlet": ""}
COMPILED = ", compiled"  # for single images, if there is a C++ compiler
EXPORTED = ", exported"  # for single images: an ONNX file

inductor.freezing = True  # as TORCHINDUCTOR_FREEZING=1 does: weights are laid out for the machine once


def steps(rounds: int) -> Seconds:
    """A training step from the cache, and one that samples its teacher by the plain loop, as Truong 2019 did."""
    task, network = student_task(), teacher()
    indices, images = torch.arange(task.schedule.batch_size), random_images(task.schedule.batch_size)
    task.model.train()

    def step(made: tuple) -> None:
        with COMPUTE.autocast():
            loss = task.losses(task.model, made)["loss"]
        task.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        task.optimizer.step()

    def online() -> None:
        parts, pixels, wanted, progress = task.batch(indices, 0.0)
        step((parts, pixels, wanted | statistics(plain(network, images, len(images), ONLINE_PASSES)), progress))

    return in_turn(
        {"cached step": lambda: step(task.batch(indices, 0.0)), "online step": online}, rounds, "training step"
    )


def students() -> dict[str, Student]:
    """A student of each method, ready for use; and a compiled one, if there is a C++ compiler."""
    names = [name + suffix for name in METHODS for suffix in (["", COMPILED] if shutil.which("c++") else [""])]
    models = {name: for_use(student(name.removesuffix(COMPILED)), getattr(torch, COMPUTE.dtype)) for name in names}
    for name, model in models.items():
        if name.endswith(COMPILED):
            model.compile()
    return models


def predictions(models: dict[str, Student], batch_size: int, rounds: int) -> Seconds:
    """The seconds for all measures of a round's images, in batches of `batch_size`."""
    images, network = random_images(BATCHES[batch_size]), teacher()

    def sampled(way: Callable) -> Callable[[], None]:
        def work() -> None:
            for batch in images.split(batch_size):
                measures_of(Samples(way(images=batch)))

        return work

    def once(name: str) -> None:
        with COMPUTE.autocast(), torch.inference_mode():
            for batch in images.split(batch_size):
                measures_of(models[name](batch))

    works = {
        "plain": sampled(partial(plain, network, batch_size=batch_size)),
        "ours": sampled(partial(ours, Sampler(network), batch_size=512, masks="grouped")),
        "deterministic": lambda: [
            deterministic(network, batch, batch_size, passes=1) for batch in images.split(batch_size)
        ],
    }
    if batch_size == 1:
        files = {f"{name}{EXPORTED}": student_file(student(name)) for name in METHODS}
        works |= {name: lambda file=file: [file(batch) for batch in images.split(1)] for name, file in files.items()}
        works[f"plain{EXPORTED}"] = sampled(teacher_file(network, images[:1], PASSES))
    compiled = [family + COMPILED for family in METHODS if batch_size == 1 and family + COMPILED in models]
    works |= {name: partial(once, name) for name in (*METHODS, *compiled)}
    return in_turn(works, rounds, f"{PASSES} passes against one, batch {batch_size}")


def main(rounds: int) -> None:
    """Measure training steps, then predictions at three batch sizes."""
    step, models = steps(rounds), students()
    seconds = {size: predictions(models, size, rounds) for size in BATCHES}
    ratios = {"online_over_cached_step": ratio(step, "online step", "cached step")}
    for family, suffix in METHODS.items():
        for size in BATCHES:
            ratios[f"plain_over_student_batch{size}{suffix}"] = ratio(seconds[size], "plain", family)
            ratios[f"ours_over_student_batch{size}{suffix}"] = ratio(seconds[size], "ours", family)
            ratios[f"student_over_deterministic_batch{size}{suffix}"] = ratio(seconds[size], family, "deterministic")
        if family + COMPILED in seconds[1]:
            ratios[f"plain_over_student_batch1_compiled{suffix}"] = ratio(seconds[1], "plain", family + COMPILED)
            ratios[f"ours_over_student_batch1_compiled{suffix}"] = ratio(seconds[1], "ours", family + COMPILED)
        ratios[f"plain_over_student_batch1_exported{suffix}"] = ratio(seconds[1], "plain", family + EXPORTED)
        ratios[f"both_exported_batch1{suffix}"] = ratio(seconds[1], f"plain{EXPORTED}", family + EXPORTED)
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
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how many rounds of every measurement")
    main(parser.parse_args().rounds)
