"""How much less noise stratified passes have than plain ones, and what they cost (docs/method.md).

    python -m experiments.stratified_samples          # half an hour on one CPU core with bfloat16 instructions

The committed teacher of CIFAR-10 is sampled several times in each way, on test images of CIFAR-10 and of CIFAR-100. All
estimates but the total variance of one block are unbiased (tests/uncertainty/test_mc_dropout.py), so their variance
between repeats is their noise. Takes both sets from datasets/, or downloads them. Writes results/stratified_samples/.
"""

from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

import data
from configs import cli
from configs.schema import Count, Several, dataclass
from experiments import common
from methods.teacher import load_teacher
from training.compute import choose
from uncertainty.mc_dropout import Plan, Sampler, samples_of
from uncertainty.samples import Samples, statistics
from uncertainty.speed import in_turn

SCALE = "mean total variance"
MEASURES = ("mean", "predictive_entropy", "expected_entropy", "total_variance")


@dataclass
class Settings:
    """What can be set on the command line."""

    run: str = "results/cifar10_cpu"
    """The folder of the teacher's run."""
    images: Count = 400
    """Of each set."""
    repeats: Several = 6
    """Of each way of sampling."""
    rounds: Count = 5
    """Of the times."""


WAYS = {  # passes, and the least number of blocks
    "16 plain": (16, 0),
    "8 stratified, one block": (8, 1),
    "16 stratified, one block": (16, 1),
    "16 stratified, two blocks": (16, 2),
    "32 stratified, two blocks": (32, 2),
    "64 stratified, four blocks": (64, 2),
}
UNIT = "16 plain"  # the way whose noise is 1


def noise(repeats: list[Samples]) -> dict[str, float]:
    """The variance between repeats of each measure, its mean over the images; of the mean, the sum over the classes.
    And the mean of total variance itself."""
    found = {name: [] for name in MEASURES}
    for samples in repeats:
        measures = statistics(samples) | {"predictive_entropy": samples.predictive_entropy}
        for name in MEASURES:
            found[name].append(measures[name].double().view(len(samples.log_probs), -1))
    variances = {name: torch.stack(values).var(0).sum(1).mean().item() for name, values in found.items()}
    return variances | {SCALE: torch.stack(found["total_variance"]).mean().item()}


def sampled(sampler: Sampler, images: Tensor, way: str, key: str, group_size: int) -> Samples:
    """The samples of images [N, H, W, C] in one of WAYS; another key, other masks."""
    passes, blocks = WAYS[way]
    return samples_of(sampler, images, Plan(passes, "grouped", group_size, (0, key, way), blocks))


def main(settings: Settings) -> None:
    """Sample, and write the page."""
    config = cli.config_of_run(Path(settings.run))
    compute = choose(config.device, config.dtype)
    teacher = load_teacher(config, compute)
    sampler, _ = teacher.samplers("mc_dropout")
    record = common.provenance(settings) | {"noise": {}, "time": {}}
    with compute.autocast():
        for dataset in data.load_evaluation(config.data, teacher.classes, config.split_seed)[:2]:
            images = dataset.subset(torch.arange(len(dataset))[:: max(1, len(dataset) // settings.images)]).images
            images = images[: settings.images].to(compute.device)
            record["noise"][dataset.name] = {
                way: noise([sampled(sampler, images, way, f"{dataset.name} {k}", 16) for k in range(settings.repeats)])
                for way in WAYS
            }
        works = {way: partial(sampled, sampler, images[:256], way, "time", 256) for way in WAYS}
        seconds = in_turn(works, settings.rounds, "time")
    unit = WAYS[UNIT][0] / median(seconds[UNIT])
    record["time"] = {way: unit * median(taken) / WAYS[way][0] for way, taken in seconds.items()}
    common.write("stratified_samples", record, tables)


def tables(record: dict) -> dict[str, dict]:
    """The noise on each set, and the time."""
    found = {}
    for name, ways in record["noise"].items():
        caption = f"{name}: noise (variance between repeats) of passes, that of {UNIT} passes = 1; in brackets, the "
        caption += "plain passes that have as much"
        found[caption] = {
            way: {
                measure.replace("_", " "): f"{ratio:.2f} ({WAYS[UNIT][0] / ratio:.0f})"
                for measure in MEASURES
                for ratio in [of_way[measure] / ways[UNIT][measure]]
            }
            | {SCALE: of_way[SCALE]}
            for way, of_way in ways.items()
        }
    found["Time of a pass, that of a plain one = 1 (median; ways measured in turn)"] = {
        way: {"time": time} for way, time in record["time"].items()
    }
    return found


if __name__ == "__main__":
    common.start(main, Settings, __doc__)
