"""The memory (the process's own) and the time of a run on N images in folders.

    python -m speed.images

Synthetic JPEGs, a network of two layers, an epoch of training and two passes of sampling. Images are decoded once and
mapped, or decoded on demand. Each N has its own process. Time is the processor's, as other jobs may run on the machine.
Writes speed/results/images.json and images.png.
"""

import multiprocessing
import os
import re
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from PIL import Image
from torch import nn
from tqdm import tqdm
from training.loop import fit

import data
from configs.schema import McDropout
from data.views import make_views
from methods.teacher import standardize
from models.external import External
from plots.style import save
from speed.measuring import RESULTS, write
from train_teacher import classification_task
from training import cli
from training.run import begin
from uncertainty.any_network import sampler_of
from uncertainty.cache import SampleCache

COUNTS = {64: (5_000, 10_000, 20_000, 40_000, 80_000), 224: (5_000, 20_000, 80_000)}
RETURNED = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}  # freed memory goes back at once, and is not counted
DISTINCT = 200  # files: the others are links to them
PHASES = ("loading", "training", "sampling")


def write_folder(root: Path, size: int, count: int) -> None:
    """<root>/train/<class>/<number>.jpg, of two classes."""
    rng = np.random.default_rng(0)
    for i in range(count):
        path = root / f"train/{'ab'[i % 2]}/{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i < DISTINCT:
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            coarse.resize((size, size), Image.Resampling.BICUBIC).save(path)
        else:
            os.link(root / f"train/{'ab'[i % 2]}/{i % DISTINCT:06d}.jpg", path)


def own_bytes() -> int:
    """The process's own memory, without what is mapped from files."""
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


@contextmanager
def watched(name: str, found: dict[str, dict[str, float]]):
    """Record the processor's seconds (worker processes included), and the peak of the process's own memory."""
    peak, over = [own_bytes()], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            peak[0] = max(peak[0], own_bytes())

    thread = threading.Thread(target=watch)
    thread.start()
    started = sum(os.times()[:4])
    yield
    seconds = sum(os.times()[:4]) - started
    over.set()
    thread.join()
    found[name] = {"seconds": seconds, "bytes": peak[0]}


def takes(size: int, count: int, keep: bool) -> dict[str, dict[str, float]]:
    """Each phase's seconds and bytes for `count` images."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), size, count)
        images = [
            "--data.train",
            f'{{"source": "folder", "root": "{folder}"}}',
            "--data.size",
            str(size),
            "--data.channels",
            "3",
        ]
        decoded = ["--data.decoded", f"{folder}/decoded" if keep else "null"]
        config, _ = cli.parse([*images, *decoded, "--data.validation", "10", "--runs", folder, "--teacher.epochs", "1"])
        run, compute = begin(config, "teacher")
        layers = nn.Sequential(
            nn.Conv2d(3, 8, 8, 8), nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
        )
        network = External(layers, size, 3, 2)
        with watched("loading", found):
            train, _ = data.load_train(config.data, 0)
            standardize(network, config.teacher, train)
        with watched("training", found):
            fit(classification_task(network, train, None, config, compute), run, compute, {"data": train.fingerprint})
        with watched("sampling", found):
            cache = SampleCache(config, run, compute, 2 * (sampler_of(network.eval()),), "")
            (view,) = make_views(["mixup"], train, config.data.augmentation, 0, compute.device)
            cache.get(train, "train", view, McDropout(2), keep_samples=False)
    return found


def main() -> None:
    """Measure every N, and fit the memory and the time of one more image."""
    made = []
    os.environ |= RETURNED
    cases = [(size, count, keep) for size, counts in COUNTS.items() for keep in (True, False) for count in counts]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        for size, count, keep in tqdm(cases, desc="sizes"):
            made.append(
                {"size": size, "images": count, "decoded_once": keep} | pool.submit(takes, size, count, keep).result()
            )
    slopes = []
    for size in COUNTS:
        for keep in (True, False):
            rows = [row for row in made if (row["size"], row["decoded_once"]) == (size, keep)]
            counts = [row["images"] for row in rows]
            one = {"size": size, "decoded_once": keep}
            for phase in PHASES:
                for unit in ("bytes", "seconds"):
                    one[f"{phase}_{unit}_an_image"] = float(
                        np.polyfit(counts, [row[phase][unit] for row in rows], 1)[0]
                    )
            slopes.append(one)
    write("images", {}, made=made, slopes=slopes)
    draw(made)


def draw(made: list[dict]) -> None:
    """Memory and time against N."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for size in COUNTS:
        for keep, style in ((True, "-o"), (False, "--s")):
            rows = [row for row in made if (row["size"], row["decoded_once"]) == (size, keep)]
            label = f"{size}x{size}, {'decoded once' if keep else 'on demand'}"
            counts = [row["images"] for row in rows]
            axes[0].plot(
                counts, [max(row[phase]["bytes"] for phase in PHASES[1:]) / 2**20 for row in rows], style, label=label
            )
            axes[1].plot(counts, [sum(row[phase]["seconds"] for phase in PHASES) for row in rows], style, label=label)
    axes[0].set(xlabel="images", ylabel="own memory in training and sampling, MiB", ylim=(0, None))
    axes[1].set(xlabel="images", ylabel="loading, training, sampling, CPU s", ylim=(0, None))
    axes[0].legend(frameon=False)
    save(figure, RESULTS / "images.png")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
