"""The parts of speed/README.md that are made from speed/results/*.json:

python -m speed.page
"""

import json
import math
from pathlib import Path

from plots.pages import made
from plots.style import markdown
from speed.measuring import RESULTS

PAGE = Path(__file__).parent / "README.md"
IMAGES, CLASSES, TEST_IMAGES = 1_281_167, 1000, 50_000  # of ImageNet, by calculation
VIEWS, PASSES, EPOCHS, REFERENCE = 4, 16, 12, 50
FLOPS, RATE = 8.2e9, 1e14  # of a pass of ResNet-50 at 224x224; a second of a GPU

# For each ratio: its meaning, its file, and the goal (a lower or an upper bound) that was set before it was measured.
GOALS = {
    "plain_over_grouped": ("the usual loop / our sampler, masks by groups", "sampling", ">=", 4),
    "torch_uncertainty_over_grouped": ("torch-uncertainty's wrapper, its faster mode / ours", "sampling", ">=", 4),
    "plain_float32_over_grouped": ("the usual loop in float32 / ours", "sampling", ">=", 7),
    "plain_over_independent": ("the usual loop / ours, a mask for each image", "sampling", None, None),
    "grouped_over_deterministic": ("ours / as many passes without dropout", "sampling", "<=", 0.95),
    "independent_over_deterministic": (
        "ours, a mask for each image / as many passes without dropout",
        "sampling",
        "<=",
        1.5,
    ),
    "online_over_cached_step": (
        "a training step that samples its teacher 25 times / one from the cache",
        "student",
        ">=",
        20,
    ),
    "plain_over_student_batch1": ("50 plain passes / the student, one image at a time", "student", ">=", 60),
    "plain_over_student_batch1_compiled": (
        "the same, with only the student compiled by torch.compile",
        "student",
        ">=",
        60,
    ),
    "plain_over_student_batch1_exported": (
        "50 plain passes in PyTorch / the student as an ONNX file, one image at a time",
        "student",
        ">=",
        100,
    ),
    "both_exported_batch1": (
        "50 passes of the teacher as an ONNX file, masks as inputs / the student as one",
        "student",
        None,
        None,
    ),
    "ours_over_student_batch1": ("50 of our passes, several of an image at once / the student", "student", None, None),
    "plain_over_student_batch256": ("50 plain passes / the student, batches of 256", "student", ">=", 150),
    "ours_over_student_batch256": ("50 of our passes / the student, batches of 256", "student", None, None),
    "student_over_deterministic_batch256": ("the student / one pass of its teacher's network", "student", "<=", 1.05),
    "student_over_deterministic_batch256_gaussian": ("the same for a Gaussian student", "student", "<=", 1.15),
    "two_over_one": ("samples/s of two processes / of one, a thread each", "scaling", ">=", 1.8),
    "two_over_one_training": ("training images/s of two processes / of one", "scaling", None, None),
    "two_over_two_threads": ("samples/s of two processes / of one with two threads", "scaling", None, None),
}


def load(name: str) -> dict:
    """One measurement."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def beside(kind: str | None, bound: float | None, value: float, text: str) -> list[str]:
    """A goal, a value as `text`, and whether the value reaches the goal."""
    if kind is None:
        return ["", text, ""]
    return (
        [f"≥ {bound}", text, verdict(value >= bound)] if kind == ">=" else [f"≤ {bound}", text, verdict(value <= bound)]
    )


def verdict(reached: bool) -> str:
    """The word for it in the tables."""
    return "yes" if reached else "**no**"


def goals(measured: dict[str, dict]) -> str:
    """Every ratio beside its goal."""
    rows = []
    for key, (says, file, kind, bound) in GOALS.items():
        value = measured[file]["spread"].get(key)
        text = f"{value['median']:.2f} ({value['low']:.2f}-{value['high']:.2f})" if value else "not measured"
        rows.append([f"`{key}`", says, *beside(kind, bound, value["median"] if value else math.nan, text)])
    return markdown(["ratio of times", "of what", "goal", "median (extremes)", "reached"], rows)


def sampling(measured: dict) -> str:
    """Passes per second of every contender, and its rate of arithmetic relative to that of a matrix product."""
    parts = []
    for name, network in measured["networks"].items():
        product, copied = network["flops_per_s"]["matrix product"], network["bytes_per_s"]["copy"]
        others = {
            way: rate
            for way, rate in network["flops_per_s"].items()
            if way not in ("grouped", "independent", "matrix product")
        }
        rows = [
            [
                way,
                str(network["best_batch_size"][way]),
                f"{speed['median']:.0f} ({speed['low']:.0f}-{speed['high']:.0f})",
                f"{network['flops_per_s'][way] / 1e9:.0f}",
                f"{network['flops_per_s'][way] / product:.0%}",
                f"{network['bytes_per_s'][way] / 1e9:.1f}",
                f"{network['bytes_per_s'][way] / copied:.0%}",
            ]
            for way, speed in sorted(network["passes_per_s"].items(), key=lambda item: -item[1]["median"])
        ]
        head = [
            "",
            "best batch size",
            "image passes/s: median (extremes)",
            "GFLOP/s",
            "of a matrix product",
            "GB/s",
            "of a copy",
        ]
        parts.append(f"### {name}, half the width\n\n{markdown(head, rows)}")
        parts.append(
            f"A pass of one image is {network['flops_of_a_pass'] / 1e6:.0f} MFLOP, and its convolutions and matrix products read and "
            f"write {network['numbers_moved_by_a_pass'] / 1e3:.0f} thousand numbers. In the same rounds a plain matrix product "
            f"(2048 x 2048) did {product / 1e9:.0f} GFLOP/s, and a plain copy moved {copied / 1e9:.1f} GB/s. "
            f"If sampling were only arithmetic, at the rate of that product, it would be "
            + ", ".join(f"{product / rate:.1f} times as fast as *{way}*" for way, rate in others.items())
            + "."
        )
    return "\n\n".join(parts)


def student(measured: dict, network: dict) -> str:
    """Milliseconds of a prediction and of a training step, and the arithmetic of one image; `network`: what `sampling`
    measured of it."""
    rows = []
    names = list(measured["seconds_of_an_image"]["1"])
    for size, seconds in measured["seconds_of_an_image"].items():
        rows.append([size, *(f"{seconds[name]['median'] * 1e3:.3f}" if name in seconds else "" for name in names)])
    steps = ", ".join(f"{name} {value['median'] * 1e3:.0f} ms" for name, value in measured["seconds_of_a_step"].items())
    passes = {name: measured["passes"] if name.startswith(("plain", "ours")) else 1 for name in names}
    head = ["batch", *(f"{name}, {'one pass' if passes[name] == 1 else f'{passes[name]} passes'}" for name in names)]
    product = network["flops_per_s"]["matrix product"]
    seconds = measured["seconds_of_an_image"]["1"]
    rates = {name: passes[name] * network["flops_of_a_pass"] / seconds[name]["median"] for name in names[2:]}
    alone = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s ({rate / product:.0%})" for name, rate in rates.items())
    return (
        f"{markdown(head, rows)}\n\nMilliseconds per image, including all measures. A training step of 128 images: {steps}. The network's "
        f"arithmetic at batch size 1 (in brackets relative to the matrix product above): {alone}."
    )


def stages() -> str:
    """Seconds of each stage of two whole runs, from their metrics."""
    runs = {name: json.loads(Path(f"results/{name}/metrics.json").read_text()) for name in ("digits", "cifar10_cpu")}
    names = list(runs["digits"]["stages_s"])
    rows = [
        [name, run["provenance"]["device"], *(f"{run['stages_s'][stage]:.0f}" for stage in names)]
        for name, run in runs.items()
    ]
    return markdown(["seconds", "evaluated on", *names], rows)


def pipeline(measured: dict) -> str:
    """The parts of a training step."""
    shares = measured["shares_of_a_step"]
    kinds = list(shares["teacher"])
    return markdown(
        ["share of a step", *kinds],
        [[name, *(f"{parts[kind]:.0%}" for kind in kinds)] for name, parts in shares.items()],
    )


def scaling(measured: dict) -> str:
    """Work per second of one process and of two."""
    speeds = measured["passes_or_images_per_s"]
    rows = [[name, f"{value['median']:.0f} ({value['low']:.0f}-{value['high']:.0f})"] for name, value in speeds.items()]
    return markdown(["stage, processes", "passes or images a second"], rows)


def kinds(measured: dict) -> str:
    """Every kind of network: equal to the loop, or refused."""
    rows = []
    for name, kind in measured["kinds"].items():
        if "refused" in kind:
            rows.append([name, f"refused: *{kind['refused']}*", "", "", "", ""])
            continue
        z, variance, time = kind["mean_z"], kind["total_variance"], kind["time"]
        moments = [
            f"{z['rms']:.2f}, {z['largest']:.1f}",
            f"{variance['ours']:.4f}, {variance['loop']:.4f}",
            f"{variance['z']:+.1f}",
        ]
        rows.append([name, kind["sampler"], *moments, f"{time['median']:.2f} ({time['low']:.2f}-{time['high']:.2f})"])
    head = [
        "network",
        "sampler",
        "means: z (rms, largest)",
        "total variance: ours, loop",
        "its z",
        "time: ours / loop (extremes)",
    ]
    return markdown(head, rows)


def images(measured: dict) -> str:
    """Memory and time of one more image, and what follows for ImageNet."""
    phases = ("loading", "training", "sampling")
    rows = [
        [
            f"{one['size']}x{one['size']}",
            "decoded once" if one["decoded_once"] else "on demand",
            *(f"{one[f'{phase}_bytes_an_image']:.0f}" for phase in phases),
            *(f"{one[f'{phase}_seconds_an_image'] * 1e3:.1f}" for phase in phases),
        ]
        for one in measured["slopes"]
    ]
    head = [
        "size",
        "images",
        *(f"{phase}, bytes per image" for phase in phases),
        *(f"{phase}, CPU ms per image" for phase in phases),
    ]
    large = [one for one in measured["slopes"] if one["size"] == 224]
    own = max(one[f"{phase}_bytes_an_image"] for one in large for phase in phases[1:])
    hours = {
        "sampling": IMAGES * VIEWS * PASSES * FLOPS / RATE / 3600,
        "the student's training": 3 * EPOCHS * IMAGES * FLOPS / RATE / 3600,
        "the reference": 2 * REFERENCE * TEST_IMAGES * FLOPS / RATE / 3600,
    }
    gpu = ", ".join(f"{name} {value:.1f}" for name, value in hours.items())
    decoding = (
        (VIEWS + EPOCHS) * IMAGES * large[0]["loading_seconds_an_image"] / 3600
    )  # decoded once: loading is decoding
    return (
        f"{markdown(head, rows)}\n\n"
        f"ImageNet by calculation (N = {IMAGES:,}, C = {CLASSES:,}; a ResNet-50 of {FLOPS / 1e9:.1f} GFLOP per pass; {VIEWS} views x "
        f"{PASSES} passes, {EPOCHS} epochs of a student, a reference of 2 x {REFERENCE} passes on {TEST_IMAGES:,} images):\n\n"
        f"- *Memory*, besides torch's own: {IMAGES * own / 1e9:.2f} GB in training and sampling. Evaluation: 8 T C bytes per test image, "
        f"{8 * REFERENCE * CLASSES * TEST_IMAGES / 1e9:.0f} GB for all of them.\n"
        f"- *Disk*: {IMAGES * 224 * 224 * 3 / 1e9:.0f} GB for the decoded images (none with `data.decoded: null`), "
        f"{VIEWS * IMAGES * (16 + 8 * CLASSES) / 1e9:.0f} GB for the statistics of the samples.\n"
        f"- *Hours on one GPU*, if it does {RATE / 1e12:.0f} TFLOP/s (assumed): {gpu}; in all "
        f"{sum(hours.values()):.1f}. On eight GPUs, which share the groups and the batches: {sum(hours.values()) / 8:.1f}.\n"
        f"- *Decoding on demand*, of images that are stored at 224x224: {decoding:.0f} CPU hours, shared by the worker processes."
    )


def text() -> str:
    """The whole page, with the parts that come from the measurements made anew."""
    measured = {name: load(name) for name in ("sampling", "student", "pipeline", "scaling", "kinds", "images")}
    machines = "\n".join(f"- `{r['machine']['command']}`: {r['machine']['device']}, torch {r['machine']['versions']['torch']}, commit "
                         f"{r['machine']['commit']}" for r in measured.values())  # fmt: skip
    parts = {
        "machines": lambda: machines,
        "goals": lambda: goals(measured),
        "sampling": lambda: sampling(measured["sampling"]),
        "student": lambda: student(measured["student"], measured["sampling"]["networks"]["vgg11"]),
        "stages": stages,
        "pipeline": lambda: pipeline(measured["pipeline"]),
        "scaling": lambda: scaling(measured["scaling"]),
        "kinds": lambda: kinds(measured["kinds"]),
        "images": lambda: images(measured["images"]),
    }
    return made(PAGE.read_text(), parts)


if __name__ == "__main__":
    PAGE.write_text(text())
