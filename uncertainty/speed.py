"""Throughput of the teacher at T passes and of the student, measured in turn."""

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from configs.run import Run
from configs.schema import Evaluation
from uncertainty.mc_dropout import Plan


def compare_speed(run: Run, sampler: Callable, student: nn.Module, images: Tensor, settings: Evaluation, rounds: int = 3) -> dict:
    """Images a second at batch 256 and batch 1, teacher (T samples) and student in turn; the median of the rounds."""

    @torch.inference_mode()
    def teacher_pass(batch: Tensor) -> Tensor:
        plan = Plan(settings.speed_passes, settings.masks, len(batch), (run.config.seed, "speed"))
        samples = sampler(lambda indices: batch[indices], len(batch), plan, settings.batch_size)
        return torch.cat([log_probs for _, _, log_probs in samples]).exp().mean(1).cpu()

    @torch.inference_mode()
    def student_pass(batch: Tensor) -> Tensor:
        return student(batch).mean.cpu()

    result = {"teacher_passes": settings.speed_passes}
    with run.autocast():
        for suffix, size, count in (("", 256, settings.speed_images), ("_batch1", 1, 16)):
            batches = images[:count].split(size)
            seconds = {"teacher": [], "student": []}
            for _ in range(rounds + 1):
                seconds["teacher"].append(_time(teacher_pass, batches))
                seconds["student"].append(_time(student_pass, batches))
            rate = {who: len(images[:count]) / median(values[1:]) for who, values in seconds.items()}  # the first round warms up
            result |= {f"{who}_images_per_s{suffix}": value for who, value in rate.items()}
            result[f"ratio{suffix}"] = rate["student"] / rate["teacher"]
    return result


def _time(work: Callable[[Tensor], Tensor], batches: tuple[Tensor, ...]) -> float:
    started = time.perf_counter()
    for batch in batches:
        work(batch)
    return time.perf_counter() - started
