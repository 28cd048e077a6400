"""The time of T = 50 passes: this project's sampler against the usual alternatives, each at its best batch size.

    pip install torch-uncertainty      # for this measurement alone; without it, that contender is left out
    python -m speed.sampling

500 images of 32x32 in each of 4 rounds; half-width VGG-11, then VGG-16. Writes speed/results/sampling.json.
"""

import argparse
import importlib.util
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from speed.contenders import PASSES, deterministic, ours, plain, random_images, teacher, torch_uncertainty
from speed.measuring import COMPUTE, fastest, middle, ratio, write
from uncertainty.mc_dropout import Sampler
from uncertainty.speed import Seconds, in_turn

IMAGES, ROUNDS = 500, 4
BATCHES = (64, 125, 250, 500)
RATIOS = {
    "plain_over_grouped": ("plain", "grouped"),
    "plain_float32_over_grouped": ("plain float32", "grouped"),
    "plain_over_independent": ("plain", "independent"),
    "grouped_over_deterministic": ("grouped", "deterministic"),
    "independent_over_deterministic": ("independent", "deterministic"),
    "torch_uncertainty_over_grouped": ("torch-uncertainty", "grouped"),
}


def contenders(name: str) -> dict[str, Callable]:
    """Each way to sample the network, as a function of (images, batch size, passes)."""
    model = teacher(name)
    ways = {
        "plain": partial(plain, model),
        "plain float32": partial(plain, model, dtype="float32"),
        "grouped": partial(ours, Sampler(model), masks="grouped"),
        "independent": partial(ours, Sampler(model), masks="independent"),
        "deterministic": partial(deterministic, model),
    }
    if importlib.util.find_spec("torch_uncertainty"):
        ways["torch-uncertainty, loop"] = partial(torch_uncertainty, model, on_batch=False)
        ways["torch-uncertainty, batch"] = partial(torch_uncertainty, model, on_batch=True)
    return ways


def measure(name: str, rounds: int) -> tuple[dict[str, int], Seconds]:
    """Each contender's best batch size, and its seconds for 500 images, with a plain matrix product and a plain copy in
    turn."""
    images = random_images(IMAGES)
    ways = contenders(name)
    best = {}
    for way, work in ways.items():
        few = (
            {"images": images[: IMAGES // 10]}
            if way == "torch-uncertainty, batch"
            else {"images": images, "passes": PASSES // 10}
        )
        best[way] = fastest(
            {size: partial(work, batch_size=size, **few) for size in BATCHES}, f"{name}, {way}: batch size"
        )
    works = {way: partial(work, images, batch_size=best[way]) for way, work in ways.items()}
    return best, in_turn(works | {"matrix product": product, "copy": copy}, rounds, name)


MATRIX = torch.randn(2048, 2048, device=COMPUTE.device).to(getattr(torch, COMPUTE.dtype))
BLOCK, TARGET = torch.ones(2, 64 * 2**20, device=COMPUTE.device)


def product() -> Tensor:
    """2 · 2048³ operations: measures how fast the machine's arithmetic is."""
    return MATRIX @ MATRIX


def copy() -> Tensor:
    """256 MiB read and 256 MiB written: measures how fast the machine's memory is."""
    return TARGET.copy_(BLOCK)


def cost_of_a_pass(name: str) -> tuple[int, int]:
    """Operations of the convolutions and matrix products for one image, and the count of numbers they read and write,
    once per layer."""
    moved = 0

    def count(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal moved
        moved += inputs[0].numel() + output.numel()

    model = teacher(name)
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    with FlopCounterMode(display=False) as counter:
        model(random_images(1))
    return counter.get_total_flops(), moved


def bytes_of_a_number(way: str) -> int:
    """The bytes of a number in the arithmetic that a contender uses."""
    return getattr(torch, "float32" if "float32" in way else COMPUTE.dtype).itemsize


def main(rounds: int) -> None:
    """Measure both networks; the ratios are those of VGG-11."""
    networks, ratios = {}, {}
    for name in ("vgg11", "vgg16"):
        best, seconds = measure(name, rounds)
        wrapper = min(
            (way for way in seconds if way.startswith("torch-")), key=lambda way: sum(seconds[way]), default=None
        )
        pairs = {key: pair for key, pair in RATIOS.items() if wrapper or "torch-uncertainty" not in pair}
        measured = {
            key: ratio(seconds, *(wrapper if way == "torch-uncertainty" else way for way in pair))
            for key, pair in pairs.items()
        }
        ratios = ratios or measured
        flops, numbers = cost_of_a_pass(name)
        networks[name] = {
            "flops_of_a_pass": flops,
            "numbers_moved_by_a_pass": numbers,
            "best_batch_size": best,
            "seconds": {way: middle(values) for way, values in seconds.items()},
            "passes_per_s": {way: middle([IMAGES * PASSES / value for value in seconds[way]]) for way in best},
            "flops_per_s": {way: IMAGES * PASSES * flops / median(seconds[way]) for way in best}
            | {"matrix product": 2 * 2048**3 / median(seconds["matrix product"])},
            "bytes_per_s": {
                way: IMAGES * PASSES * numbers * bytes_of_a_number(way) / median(seconds[way]) for way in best
            }
            | {"copy": 2 * BLOCK.nbytes / median(seconds["copy"])},
            "ratios": {key: middle(values) for key, values in measured.items()},
        }
    write("sampling", ratios, networks=networks, images=IMAGES, passes=PASSES)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how many rounds, of 500 images each")
    main(parser.parse_args().rounds)
