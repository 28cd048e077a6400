"""Two processes against one, a thread each; and what a cache takes on disk.

    python -m benchmarks.scaling

Half-width VGG-11, random images, torchrun with gloo (or NCCL, a GPU each). Writes benchmarks/results/scaling.json.
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

import train_teacher
from benchmarks.contenders import CLASSES, made_up, random_images
from benchmarks.measuring import DEVICE, Seconds, middle, ratio, seconds_of, write
from configs import artifact, cli, ranks
from configs.run import Run
from configs.schema import McDropout
from data.dataset import Dataset
from data.views import make_views
from models.teacher import load_teacher
from uncertainty.cache import SampleCache
from uncertainty.samples import statistics

ROUNDS = 4
IMAGES, PASSES = 2560, 16
IMAGENET = {"images": 1_281_167, "passes": 50, "classes": 1000}


def work(config, overwrite: bool) -> None:
    """What every process does: an epoch of the teacher's training, and samples of its images."""
    with made_up(IMAGES):
        train_teacher.main(config, overwrite)
    run = Run(config, "benchmark")
    trained = load_teacher(run)
    dataset = Dataset("random", random_images(IMAGES), torch.zeros(IMAGES, dtype=torch.long), [""] * IMAGES, [""] * CLASSES)
    view = make_views(["plain"], dataset.images, config.data.augmentation, config.seed)[0]
    cache = SampleCache(run, trained.sampler("mc_dropout"), trained.checksum)
    ranks.wait()
    sampling = seconds_of(lambda: cache.get(dataset, "train", view, McDropout(PASSES), keep_samples=True))  # with merging the shares
    if ranks.first():
        (run / "seconds.json").write_text(json.dumps({"training": trained.seconds, "sampling": sampling}))


def started(processes: int) -> dict[str, float]:
    """Seconds of training and of sampling by so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--config", "configs/cifar10_cpu.yaml", "--runs", folder, "--name", "run", "--teacher.epochs", "1"]
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
        command = [sys.executable, "-m", *launcher, "benchmarks.scaling", *options]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        if done.returncode:
            raise RuntimeError(done.stderr)
        return json.loads((Path(folder) / "run/seconds.json").read_text())


def size_of(images: int, passes: int, classes: int, samples: bool) -> int:
    """Bytes of a cache's tensors on disk, as `SampleCache` writes them with float16 samples."""
    log_probs = torch.zeros(images, passes, classes)
    tensors = statistics(log_probs) | {"group": torch.zeros(images, dtype=torch.long)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cache.safetensors"
        artifact.save(path, tensors | ({"log_probs": log_probs.half()} if samples else {}), {})
        return path.stat().st_size


def cache_size() -> dict:
    """Bytes an image and a sample's class, from files of two sizes each, so that the header counts nothing; and ImageNet by them."""
    sizes = [
        {"images": n, "passes": t, "classes": c, "statistics": size_of(n, t, c, False), "with_samples": size_of(n, t, c, True)}
        for n, t, c in ((1000, 50, 10), (2000, 50, 10), (2000, 100, 10), (2000, 50, 100))
    ]
    one, two, more, wide = sizes
    per_image_class = (wide["statistics"] - two["statistics"]) / (wide["classes"] - two["classes"]) / two["images"]
    per_image = (two["statistics"] - one["statistics"]) / 1000 - per_image_class * two["classes"]
    per_sample_class = (more["with_samples"] - two["with_samples"]) / (50 * two["images"] * two["classes"])
    n, t, c = IMAGENET.values()
    imagenet = {"statistics": n * (per_image + per_image_class * c), "samples": n * t * c * per_sample_class}
    return {
        "measured": sizes,
        "bytes_per_image": per_image,
        "bytes_per_image_and_class": per_image_class,
        "bytes_per_image_pass_and_class": per_sample_class,
        "imagenet": IMAGENET | {f"{name}_bytes_a_view": size for name, size in imagenet.items()},
    }


def main(rounds: int) -> None:
    """One and two processes in turn."""
    seconds: Seconds = {f"{stage}, {n}": [] for stage in ("sampling", "training") for n in (1, 2)}
    for _ in trange(rounds, desc="one and two processes"):
        for processes in (1, 2):
            for stage, value in started(processes).items():
                seconds[f"{stage}, {processes}"].append(value)
    ratios = {
        "two_over_one": ratio(seconds, "sampling, 1", "sampling, 2"),
        "two_over_one_training": ratio(seconds, "training, 1", "training, 2"),
    }
    work_done = {"sampling": IMAGES * PASSES, "training": IMAGES}
    speeds = {name: middle([work_done[name.split(",")[0]] / value for value in values]) for name, values in seconds.items()}
    backend = "gloo" if DEVICE.type == "cpu" else "nccl"
    write("scaling", ratios, passes_or_images_per_s=speeds, threads_a_process=1, backend=backend, cache=cache_size())


if __name__ == "__main__":
    if torch.distributed.is_torchelastic_launched():
        cli.main(work, __doc__)
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--rounds", type=int, default=ROUNDS, help="of one process and two")
        main(parser.parse_args().rounds)
