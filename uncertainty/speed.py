"""The cost of a prediction: time, arithmetic, memory and size. Times that are compared are measured in turn."""

import os
import time
from collections.abc import Callable
from itertools import accumulate
from statistics import median
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from configs.schema import Evaluation
from training.bar import progress_bar
from training.compute import Compute
from uncertainty.mc_dropout import Plan, samples_of

Seconds = dict[str, list[float]]  # of each work, in the order of the rounds

BATCHES = (("", 256), ("_batch1", 1))  # the suffix of each batch size's entries


IMAGES, PASSES = 512, 50  # of the speed measurement


def compare_speed(
    sampler: Callable, student: nn.Module, images: Tensor, settings: Evaluation, seed: int, compute: Compute
) -> dict[str, float]:
    """Images per second at batch sizes 256 and 1, of the teacher (PASSES samples, or as many as there are in a half of
    the reference) and the student, measured in turn."""
    passes = min(PASSES, settings.passes)
    result = {"teacher_passes": passes}
    works = {
        "teacher": lambda x: samples_of(sampler, x, Plan(passes, settings.masks, len(x), (seed, "speed"))).mean.cpu(),
        "student": lambda x: student(x).mean.cpu(),
    }
    with compute.autocast(), torch.inference_mode():
        for suffix, size in BATCHES:
            seconds = seconds_per_image(works, images[: IMAGES if size > 1 else 16], size, rounds=3)
            result |= {f"{who}_images_per_s{suffix}": 1 / value for who, value in seconds.items()}
            result[f"ratio{suffix}"] = seconds["teacher"] / seconds["student"]
    return result


def cost(
    predict: Callable[[Tensor], Any], baseline: Callable[[Tensor], Any], modules: list[nn.Module], images: Tensor
) -> dict[str, float]:
    """The cost of `predict`, which uses `modules`, and its time relative to that of `baseline`.

    parameters, bytes on disk (safetensors, float32): of the modules alone. flops: of one image's matrix products and
    convolutions. peak_bytes: the largest memory of a batch of 256, besides weights. seconds (per image) and ratio: at
    batch size 256 and (_batch1) 1.
    """
    tensors = {
        f"{i}.{name}": value.float().contiguous()
        for i, module in enumerate(modules)
        for name, value in module.state_dict().items()
    }
    with FlopCounterMode(display=False) as counter:
        predict(images[:1])
    result = {
        "parameters": sum(p.numel() for module in modules for p in module.parameters()),
        "bytes": len(save(tensors)),
        "flops": counter.get_total_flops(),
        "peak_bytes": peak_bytes(lambda: predict(images[:256]), next(modules[0].parameters()).device),
    }
    for suffix, size in BATCHES:
        seconds = seconds_per_image({"method": predict, "baseline": baseline}, images[: 256 if size > 1 else 16], size)
        result |= {f"seconds{suffix}": seconds["method"], f"ratio{suffix}": seconds["method"] / seconds["baseline"]}
    return result


def seconds_per_image(
    works: dict[str, Callable[[Tensor], Any]], images: Tensor, batch_size: int, rounds: int = 10
) -> dict[str, float]:
    """The median seconds per image of each work, over rounds of all `images`."""
    batches = images.split(batch_size)
    seconds = in_turn(
        {who: lambda work=work: [work(batch) for batch in batches] for who, work in works.items()}, rounds
    )
    return {who: median(values) / len(images) for who, values in seconds.items()}


def in_turn(works: dict[str, Callable[[], Any]], rounds: int, title: str | None = None) -> Seconds:
    """The seconds of each work in each round. The works take turns, A B C A B C ..., so that other load on the machine
    affects all alike; a first round warms up and is not counted. title: of a progress bar."""
    seconds = {name: [] for name in works}
    turns = range(rounds + 1)
    for turn in progress_bar(turns, desc=title, unit="round") if title else turns:
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def peak_bytes(work: Callable[[], Any], device: torch.device) -> int:
    """The most memory that tensors made by `work` hold at once: on a GPU as torch counts it, else from the profiler's
    allocations."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler warns if it finds no GPU
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiled:
        work()
    # In order of time; profiled.events() lacks operators' allocations.
    events = profiled.profiler.kineto_results.events()
    return max(accumulate((event.nbytes() for event in events if event.name() == "[memory]"), initial=0))
