"""Where the time of a training step goes: the share of its parts, for the teacher and for the student of
configs/cifar10_cpu.yaml.

    python -m speed.pipeline

On random images. Writes speed/results/pipeline.json.
"""

import argparse
import time

import torch
from tqdm import trange
from training.loop import Task, shuffled

from speed.contenders import student_task, teacher_task
from speed.measuring import COMPUTE, write

STEPS = 40


def shares_of_a_step(task: Task, steps: int = STEPS) -> dict[str, float]:
    """The shares of a step's time: making the batch, forward pass, backward pass, optimizer. The first step warms
    up."""
    seconds = dict.fromkeys(("data", "forward", "backward", "optimizer"), 0.0)
    indices = shuffled(task.count, task.schedule.batch_size, 0)
    task.model.train()
    for step in trange(steps + 1, desc=type(task.model).__name__):
        marks = [_now()]
        made = task.batch(indices[step % len(indices)], 0.0)
        marks.append(_now())
        with COMPUTE.autocast():
            loss = task.losses(task.model, made)["loss"]
        marks.append(_now())
        task.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        marks.append(_now())
        task.optimizer.step()
        marks.append(_now())
        if step:
            for part, begun, ended in zip(seconds, marks, marks[1:]):
                seconds[part] += ended - begun
    return {part: value / sum(seconds.values()) for part, value in seconds.items()}


def _now() -> float:
    if COMPUTE.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Teacher, then student."""
    write(
        "pipeline",
        {},
        shares_of_a_step={"teacher": shares_of_a_step(teacher_task()), "student": shares_of_a_step(student_task())},
    )


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
