"""Two processes of one thread against one process, of one thread and of two.

    python -m speed.scaling

Half-width VGG-11, random images, torchrun with gloo (or NCCL, a GPU each). Writes speed/results/scaling.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from tqdm import trange
from training.loop import fit

from configs.schema import McDropout
from data.views import make_views
from speed.contenders import random_set, teacher, teacher_task
from speed.measuring import COMPUTE, middle, ratio, write
from training import cli, process_group
from training.run import begin
from uncertainty.cache import SampleCache
from uncertainty.mc_dropout import Sampler
from uncertainty.speed import Seconds, seconds_of

ROUNDS = 4
IMAGES, PASSES = 2560, 16
STARTS = {"one": (1, 1), "two": (2, 1), "two threads": (1, 2)}  # processes, threads of each


def work(config, overwrite: bool) -> None:
    """The work of every process: an epoch of the teacher's training, and samples of its images."""
    run, compute = begin(config, "speed")
    torch.manual_seed(0)
    trained = fit(teacher_task(IMAGES), run, compute, {})
    dataset = random_set(IMAGES)
    (view,) = make_views(["plain"], dataset, config.data.augmentation, config.seed, compute.device)
    cache = SampleCache(config, run, compute, 2 * (Sampler(teacher()),), "")
    process_group.barrier()
    sampling = seconds_of(
        lambda: cache.get(dataset, "train", view, McDropout(PASSES), keep_samples=True)
    )  # includes merging the shards
    if process_group.is_first():
        (run / "seconds.json").write_text(json.dumps({"training": trained.seconds, "sampling": sampling}))


def started(processes: int, threads: int) -> dict[str, float]:
    """Seconds of training and of sampling by `processes` processes of `threads` threads each."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--config", "configs/cifar10_cpu.yaml", "--runs", folder, "--name", "run", "--teacher.epochs", "1"]
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
        command = [sys.executable, "-m", *launcher, "speed.scaling", *options]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)}
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return json.loads((Path(folder) / "run/seconds.json").read_text())


def main(rounds: int) -> None:
    """Measure one process, two processes, and one process of two threads, in turn."""
    seconds: Seconds = {f"{stage}, {name}": [] for stage in ("sampling", "training") for name in STARTS}
    for _ in trange(rounds, desc="one and two processes"):
        for name, (processes, threads) in STARTS.items():
            for stage, value in started(processes, threads).items():
                seconds[f"{stage}, {name}"].append(value)
    ratios = {}
    for stage, suffix in (("sampling", ""), ("training", "_training")):
        ratios[f"two_over_one{suffix}"] = ratio(seconds, f"{stage}, one", f"{stage}, two")
        ratios[f"two_over_two_threads{suffix}"] = ratio(seconds, f"{stage}, two threads", f"{stage}, two")
    work_done = {"sampling": IMAGES * PASSES, "training": IMAGES}
    speeds = {
        name: middle([work_done[name.split(",")[0]] / value for value in values]) for name, values in seconds.items()
    }
    backend = "gloo" if COMPUTE.device.type == "cpu" else "nccl"
    write("scaling", ratios, passes_or_images_per_s=speeds, processes_and_threads=STARTS, backend=backend)


if __name__ == "__main__":
    if torch.distributed.is_torchelastic_launched():
        cli.main(work, __doc__)
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--rounds", type=int, default=ROUNDS, help="how many rounds, of one process and two")
        main(parser.parse_args().rounds)
