"""How fast sampling, training and prediction are, compared with the usual alternatives; on random images.

    python -m speed.speed                         # all parts
    python -m speed.speed student --rounds 3      # one part
    pip install torch-uncertainty                 # for `sampling` alone; without it, that contender is left out

sampling: T = 50 passes by our sampler, by the usual loop, and without dropout. student: one pass of a student against
50 of its teacher, and a training step from cached samples against one that samples its teacher. kinds: every kind of
network that the sampler takes, beside a plain loop. Writes speed/results/<part>.json. All contenders of a comparison
take turns in the same run (A B C A B C ...), and a ratio is one of times of the same round: on a shared machine no
other comparison is reliable.
"""

import argparse
import importlib.util
import json
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch._inductor import config as inductor
from torch.utils.flop_counter import FlopCounterMode

from configs import schema
from configs.errors import UserError
from docs.examples.my_models import make_mobilenet, make_resnet18
from methods.student import Student, for_use
from models.architecture import Architecture
from models.networks import build
from training import artifact, script
from training.compute import choose
from training.run import provenance
from uncertainty import mc_dropout
from uncertainty.any_network import sampler_of
from uncertainty.distribution import measures_of
from uncertainty.mc_dropout import Plan, Sampler, samples_of
from uncertainty.samples import Samples, statistics
from uncertainty.speed import Seconds, in_turn

RESULTS = Path(__file__).parent / "results"
COMPUTE = choose("auto", "auto")
CLASSES, SIZE, WIDTH, PASSES = 10, 32, 0.5, 50
SAMPLING_PAIRS = (
    "plain / grouped",
    "plain float32 / grouped",
    "plain / independent",
    "grouped / deterministic",
    "independent / deterministic",
    "torch-uncertainty / grouped",
)

inductor.freezing = True  # as TORCHINDUCTOR_FREEZING=1 does: a compiled student's weights are laid out once


def teacher(network: str = "vgg11") -> nn.Sequential:
    """A network of half the width with random weights, which take as long as trained ones."""
    torch.manual_seed(0)
    return build(Architecture(network, WIDTH, SIZE, 3, CLASSES, 0.1, 0.5)).to(COMPUTE.device).eval()


def student(method: str) -> Student:
    """A student of that network, with random weights."""
    classes = [str(c) for c in range(CLASSES)]
    return Student(Architecture("vgg11", WIDTH, SIZE, 3, CLASSES), schema.StudentSettings(method=method), classes).to(
        COMPUTE.device
    )


def random_images(count: int) -> Tensor:
    """uint8 [N, 32, 32, 3]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, SIZE, SIZE, 3), dtype=torch.uint8, generator=generator).to(COMPUTE.device)


# Ways to sample a network: images [N, H, W, C] → log-probabilities [N, T, C].


@torch.inference_mode()
def loop(model: nn.Module, images: Tensor, batch_size: int, passes: int = PASSES, dtype: str = COMPUTE.dtype) -> Tensor:
    """One pass after the other of each batch, without changing the mode of the model: for a model in eval mode, passes
    without dropout."""
    with torch.autocast(COMPUTE.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        batches = images.split(batch_size)
        samples = [torch.stack([model(batch).float().log_softmax(-1) for _ in range(passes)], 1) for batch in batches]
    return torch.cat(samples)


def plain(model: nn.Module, *arguments: Any, **options: Any) -> Tensor:
    """The usual loop: all in training mode but batch norm."""
    for module in model.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    samples = loop(model, *arguments, **options)
    model.eval()
    return samples


@torch.inference_mode()
def torch_uncertainty(model: nn.Module, images: Tensor, batch_size: int, passes: int = PASSES) -> Tensor:
    """torch-uncertainty's wrapper, one pass after the other."""
    from torch_uncertainty.methods import mc_dropout

    wrapped, samples = mc_dropout(model, passes, on_batch=False).eval(), []
    with COMPUTE.autocast():
        for batch in images.split(batch_size):
            samples.append(wrapped(batch).float().log_softmax(-1).unflatten(0, (passes, len(batch))).transpose(0, 1))
    model.eval()
    return torch.cat(samples)


def ours(sampler: Sampler, images: Tensor, batch_size: int, masks: schema.MaskMode, passes: int = PASSES) -> Tensor:
    """This project's sampler, in groups of 256 images, or of a batch if that is smaller."""
    with COMPUTE.autocast():
        mc_dropout.BATCH = batch_size
        return samples_of(sampler, images, Plan(passes, masks, min(256, batch_size), (0, "speed"))).log_probs


def measure_sampling(rounds: int, count: int = 500, networks: tuple[str, ...] = ("vgg11", "vgg16")) -> dict:
    """Each contender's best batch size, then the seconds of T passes of `count` images, and of a matrix product: if
    sampling were only arithmetic, it would do as many operations a second."""
    images, record = random_images(count), {}
    matrix = torch.randn(2048, 2048, device=COMPUTE.device).to(getattr(torch, COMPUTE.dtype))
    for name in networks:
        model = teacher(name)
        contenders = {
            "plain": partial(plain, model),
            "plain float32": partial(plain, model, dtype="float32"),
            "grouped": partial(ours, Sampler(model), masks="grouped"),
            "independent": partial(ours, Sampler(model), masks="independent"),
            "deterministic": partial(loop, model),
        }
        if importlib.util.find_spec("torch_uncertainty"):
            contenders["torch-uncertainty"] = partial(torch_uncertainty, model)
        best = {}
        for contender, work in contenders.items():
            sizes = {count // k: partial(work, images, count // k, passes=PASSES // 10) for k in (8, 4, 2, 1)}
            seconds = in_turn(sizes, 2, f"{name}, {contender}: batch size")
            best[contender] = min(sizes, key=lambda size: min(seconds[size]))
        works = {contender: partial(work, images, best[contender]) for contender, work in contenders.items()}
        seconds = in_turn(works | {"matrix product": lambda: matrix @ matrix}, rounds, name)
        operations = dict.fromkeys(works, count * PASSES * flops_of_a_pass(name)) | {"matrix product": 2 * 2048**3}
        record[name] = {
            "best_batch_size": best,
            "passes_per_s": {
                contender: middle([count * PASSES / value for value in seconds[contender]]) for contender in works
            },
            "flops_per_s": {work: operations[work] / median(values) for work, values in seconds.items()},
            "ratios": ratios(seconds, SAMPLING_PAIRS),
        }
    return {"networks": record, "images": count, "passes": PASSES}


def flops_of_a_pass(name: str) -> int:
    """Operations of the convolutions and matrix products for one image."""
    model = teacher(name)
    with FlopCounterMode(display=False) as counter:
        model(random_images(1))
    return counter.get_total_flops()


def measure_student(rounds: int, batches: tuple[tuple[int, int], ...] = ((1, 8), (32, 64), (256, 256))) -> dict:
    """A training step from the cache, and one that samples its teacher 25 times by the plain loop, as Truong 2019 did;
    then predictions with all measures, by 50 passes and by one. batches: images at once, and images a round."""
    network, seconds = teacher(), {"training step": in_turn(training_steps(), rounds, "training step")}
    models = {name: for_use(student(name), getattr(torch, COMPUTE.dtype)) for name in ("dirichlet", "logit_gaussian")}
    if shutil.which("c++"):
        models["dirichlet, compiled"] = for_use(student("dirichlet"), getattr(torch, COMPUTE.dtype))
        models["dirichlet, compiled"].compile()

    def once(model: Student, images: Tensor, size: int) -> None:
        with COMPUTE.autocast(), torch.inference_mode():
            for batch in images.split(size):
                measures_of(model(batch))

    def sampled(way: Callable[[Tensor], Tensor], images: Tensor, size: int) -> None:
        for batch in images.split(size):
            measures_of(Samples(way(batch)))

    for size, count in batches:
        images = random_images(count)
        works = {
            "plain": partial(sampled, partial(plain, network, batch_size=size), images, size),
            "ours": partial(sampled, partial(ours, Sampler(network), batch_size=512, masks="grouped"), images, size),
            "deterministic": partial(loop, network, images, size, passes=1),
        }
        for name, model in models.items():
            if size == 1 or name != "dirichlet, compiled":
                works[name] = partial(once, model, images, size)
        seconds[f"batch {size}"] = in_turn(works, rounds, f"{PASSES} passes against one, batch {size}")
    pairs = [f"{way} / {name}" for name in models for way in ("plain", "ours")]
    pairs += [*(f"{name} / deterministic" for name in models), "online / cached"]
    return {
        "passes": PASSES,
        "seconds": {name: {work: middle(values) for work, values in works.items()} for name, works in seconds.items()},
        "images_a_round": {f"batch {size}": count for size, count in batches},
        "ratios": {name: ratios(works, pairs) for name, works in seconds.items()},
    }


def training_steps() -> dict[str, Callable[[], None]]:
    """A student's step on 128 images. Its loss compares two moments; any loss takes little time beside the network."""
    network, model, images = teacher(), student("dirichlet").train(), random_images(128)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step(targets: dict[str, Tensor]) -> None:
        with COMPUTE.autocast():
            distribution = model(images.float())
        loss = F.mse_loss(distribution.mean, targets["mean"])
        loss = loss + F.mse_loss(distribution.total_variance, targets["total_variance"])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def online() -> None:
        step(
            {name: value.clone() for name, value in statistics(Samples(plain(network, images, 128, passes=25))).items()}
        )

    cached = statistics(Samples(torch.randn(128, 25, CLASSES, device=COMPUTE.device).log_softmax(-1)))
    return {"cached": lambda: step(cached), "online": online}


# External networks, of every kind that the sampler takes or refuses; images are floats [N, 3, 32, 32].


class Everything(nn.Module):
    """Each kind of randomness, a dropout that is called twice, and a batch norm."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8)
        self.channels, self.twice, self.alpha = nn.Dropout2d(0.3), nn.Dropout(0.2), nn.AlphaDropout(0.1)
        self.depth = torchvision.ops.StochasticDepth(0.3, "row")
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.2, batch_first=True)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] → logits."""
        x = self.twice(self.channels(self.norm(self.convolution(x)).relu()))
        x = x + self.depth(self.alpha(self.twice(x)))
        x = F.dropout(x, 0.1, self.training).flatten(2).mT
        x = x + self.attention(x, x, x)[0]
        x = x + F.scaled_dot_product_attention(x, x, x, dropout_p=0.2 if self.training else 0.0)
        return self.last(x.mean(1))


class Rows(nn.Module):
    """An LSTM over an image's rows, with dropout between its layers."""

    def __init__(self):
        super().__init__()
        self.lstm, self.last = nn.LSTM(3 * SIZE, 64, 2, dropout=0.5, batch_first=True), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] → logits."""
        return self.last(self.lstm(x.permute(0, 2, 1, 3).flatten(2))[0][:, -1])


class Unused(nn.Sequential):
    """A network whose dropout is never called."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(3 * SIZE**2, 4), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] → logits."""
        return self[1](self[0](x))


class Counts(Unused):
    """A network that counts its passes in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] → logits."""
        self.calls += 1
        return self[2](super().forward(x))


def vision_transformer() -> nn.Module:
    """torchvision's, with dropout in blocks and in attention."""
    rates = {"dropout": 0.1, "attention_dropout": 0.1}
    network = torchvision.models.VisionTransformer(SIZE, 8, 2, 4, 64, 128, num_classes=4, **rates)
    nn.init.normal_(network.heads.head.weight)  # torchvision's are zeros
    return network


def dropout_twice() -> nn.Module:
    """One module in two places."""
    dropout = nn.Dropout(0.3)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 512), dropout, nn.ReLU(), dropout, nn.Linear(512, 4))


def channels_beside_units() -> nn.Module:
    """Masks of whole channels, then of units."""
    layers = nn.Conv2d(3, 16, 3, 2), nn.Dropout2d(0.5), nn.ReLU(), nn.Flatten(), nn.Dropout(0.01)
    return nn.Sequential(*layers, nn.Linear(16 * 15**2, 4))


def our(kind: str) -> nn.Module:
    """A network of this project, without its normalization of pixels."""
    return build(Architecture(kind, 0.25, SIZE, 3, 4, 0.1, 0.5))[1:]


KINDS: dict[str, Callable[[], nn.Module]] = {
    "VGG-11, ours": partial(our, "vgg11"),
    "ResNet-18, ours": partial(our, "resnet18"),
    "ResNet-18, dropout behind blocks": partial(make_resnet18, 4),
    "MobileNetV3, dropout behind blocks": partial(make_mobilenet, 4),
    "MobileNetV3, dropout in the head": partial(torchvision.models.mobilenet_v3_small, num_classes=4, dropout=0.4),
    "vision transformer": vision_transformer,
    "LSTM": Rows,
    "every kind at once": Everything,
    "one dropout in two places": dropout_twice,
    "channels beside units": channels_beside_units,
    "dropout never called": Unused,
    "a buffer that changes": Counts,
}


def warmed(make: Callable[[], nn.Module]) -> nn.Module:
    """An untrained network whose batch norms have seen some images, and whose logits differ enough for probabilities to
    vary."""
    torch.manual_seed(0)
    network = make().train()
    images = torch.randn(20, 64, 3, SIZE, SIZE)
    *_, last = [module for module in network.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad():
        for batch in images:
            network(batch)
        last.weight *= 2 / network.eval()(images[0]).std(0).mean()
    return network


def compare_kind(name: str, rounds: int, passes: int = 2000) -> dict:
    """One kind: refused, with the words; or how far the moments of its samples are from the loop's, and its time over
    the loop's."""
    network, images = warmed(KINDS[name]), torch.randn(64, 3, SIZE, SIZE)
    try:
        sampler = sampler_of(network)
        probs = samples_of(sampler, images[:8], Plan(passes, "independent", 8, (0, "kinds"))).log_probs.exp()
    except UserError as error:
        return {"refused": str(error)}
    loop_probs = plain(network, images[:8], 8, passes, "float32").exp()
    error = ((probs.var(1) + loop_probs.var(1)) / passes).sqrt()
    z = ((probs.mean(1) - loop_probs.mean(1)) / error)[error > 1e-7]
    squares = [(values - values.mean(1, keepdim=True)).square().sum(2).mean(0) for values in (probs, loop_probs)]  # [T]
    variances = [value.mean().item() for value in squares]
    deviation = sum(value.var().item() / passes for value in squares) ** 0.5
    plan = Plan(PASSES, "grouped", 64, (0, "kinds"))
    works = {
        "ours": lambda: samples_of(sampler, images, plan),
        "loop": lambda: plain(network, images, 64, PASSES, "float32"),
    }
    return {
        "sampler": str(sampler),
        "mean_z": {"rms": z.square().mean().sqrt().item(), "largest": z.abs().max().item()},
        "total_variance": {"ours": variances[0], "loop": variances[1], "z": (variances[0] - variances[1]) / deviation},
        "ratios": ratios(in_turn(works, rounds, name), ["ours / loop"]),
    }


def measure_kinds(rounds: int) -> dict:
    """Every kind of network, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    kinds = {name: compare_kind(name, rounds) for name in KINDS}
    torch.set_num_threads(threads)
    return {"kinds": kinds}


def ratios(seconds: Seconds, pairs: Iterable[str]) -> dict[str, dict]:
    """One work's time over another's, round by round, for the pairs `a / b` that were measured."""
    works = {pair: pair.split(" / ") for pair in pairs}
    return {
        pair: middle([x / y for x, y in zip(seconds[a], seconds[b], strict=True)])
        for pair, (a, b) in works.items()
        if a in seconds and b in seconds
    }


def middle(values: list[float]) -> dict:
    """The median, the extremes, and all values."""
    return {"median": median(values), "low": min(values), "high": max(values), "all": values}


PARTS = {"sampling": (measure_sampling, 4), "student": (measure_student, 10), "kinds": (measure_kinds, 7)}  # and rounds


def main() -> None:
    """Measure the parts that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "all"], default="all", help="default: all")
    parser.add_argument("--rounds", type=int, help="of every comparison; default: 4 to 10")
    options = parser.parse_args()
    for part in PARTS if "all" in options.parts else options.parts:
        measure, rounds = PARTS[part]
        record = {"machine": provenance(0, COMPUTE, []), **measure(options.rounds or rounds)}
        print(json.dumps(artifact.write_json(RESULTS / f"{part}.json", record), indent=1))


if __name__ == "__main__":
    script.guard(main)
