"""What measures speed, itself: that the contenders sample the same distribution, and that every part runs."""

import importlib.util

import pytest
import torch

from models.architecture import Architecture
from models.networks import build
from speed import speed
from uncertainty.mc_dropout import Sampler


def test_every_contender_samples_the_same_distribution():
    torch.manual_seed(0)
    network = build(Architecture("vgg5", 0.125, 8, 3, 3, conv_dropout=0.2, head_dropout=0.5)).eval()
    images, passes = torch.randint(0, 256, (6, 8, 8, 3), dtype=torch.uint8), 800
    network.normalize.fit([images])
    samples = [speed.plain(network, images, 6, passes, "float32"), speed.plain(network, images, 6, passes)]
    samples += [speed.ours(Sampler(network), images, 6, masks, passes) for masks in ("grouped", "independent")]
    if importlib.util.find_spec("torch_uncertainty"):
        samples.append(speed.torch_uncertainty(network, images, 6, passes))
    means, variances = (
        torch.stack([of(log_probs.exp(), 1) for log_probs in samples]) for of in (torch.mean, torch.var)
    )
    assert variances[0].mean() > 0.01
    assert ((means - means[0]).abs() < 5 * (2 * variances[0] / passes).sqrt() + 0.005).all()  # bfloat16 rounds
    totals = variances.sum((1, 2))
    torch.testing.assert_close(totals, totals[:1].expand_as(totals), rtol=0.15, atol=0)
    assert speed.loop(network, images, 6, passes=3).var(1).max() < 1e-9


def test_a_pass_costs_what_its_layers_do():
    channels, sides = [3, 32, 64, 128, 128, 256, 256, 256, 256], [32, 16, 8, 8, 4, 4, 2, 2]
    operations = sum(2 * 9 * i * o * side**2 for i, o, side in zip(channels, channels[1:], sides))
    assert speed.flops_of_a_pass("vgg11") == operations + 2 * 256 * 256 + 2 * 256 * 10


@pytest.fixture
def small(monkeypatch):
    """A narrow network, few passes, and no compilation, which takes half a minute."""
    monkeypatch.setattr(speed, "WIDTH", 0.0625)
    monkeypatch.setattr(speed, "PASSES", 10)
    monkeypatch.setattr(speed.shutil, "which", lambda _: None)


def test_sampling_is_measured(small):
    (network,) = speed.measure_sampling(1, 8, ("vgg11",))["networks"].values()
    assert {"plain / grouped", "grouped / deterministic"} <= network["ratios"].keys()


def test_a_student_is_measured(small):
    record = speed.measure_student(1, ((1, 1), (2, 2)))
    assert {"plain / dirichlet", "logit_gaussian / deterministic"} <= record["ratios"]["batch 2"].keys()
    assert record["ratios"]["training step"]["online / cached"]["median"] > 1
