"""What measures speed, itself: that the contenders sample the same distribution, and that every part runs."""

import importlib.util
import json
import sys

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
    first, *others = (log_probs.exp() for log_probs in samples)
    assert first.var(1).mean() > 0.01
    error = (2 * first.var(1) / passes).sqrt()
    for probs in others:
        assert probs.shape == (6, passes, 3)
        assert ((probs.mean(1) - first.mean(1)).abs() < 5 * error + 0.005).all()  # bfloat16 rounds
        assert probs.var(1).sum().item() == pytest.approx(first.var(1).sum().item(), rel=0.15)
    assert speed.loop(network, images, 6, passes=3).var(1).max() < 1e-9


def test_ratios_are_taken_round_by_round():
    seconds = {"a": [2.0, 6.0, 3.0], "b": [1.0, 2.0, 3.0]}
    ratios = speed.ratios(seconds, ["a / b", "a / not measured"])
    assert ratios == {"a / b": {"median": 2.0, "low": 1.0, "high": 3.0, "all": [2.0, 3.0, 1.0]}}


def test_a_pass_costs_what_its_layers_do():
    shapes = [(3, 32, 32), (32, 64, 16), (64, 128, 8), (128, 128, 8), (128, 256, 4), (256, 256, 4)]
    shapes += [(256, 256, 2), (256, 256, 2)]
    operations = sum(2 * 9 * i * o * side**2 for i, o, side in shapes) + 2 * 256 * 256 + 2 * 256 * 10
    assert speed.flops_of_a_pass("vgg11") == operations


@pytest.fixture
def small(monkeypatch):
    """A narrow network, few passes, and no compilation, which takes half a minute."""
    monkeypatch.setattr(speed, "WIDTH", 0.0625)
    monkeypatch.setattr(speed, "PASSES", 10)
    monkeypatch.setattr(speed.shutil, "which", lambda _: None)


def test_sampling_is_measured(small):
    (network,) = speed.measure_sampling(1, 8, ("vgg11",))["networks"].values()
    assert {"plain / grouped", "grouped / deterministic"} <= network["ratios"].keys()
    operations = network["passes_per_s"]["plain"]["median"] * speed.flops_of_a_pass("vgg11")
    assert network["flops_per_s"]["plain"] == pytest.approx(operations)


def test_a_student_is_measured(small):
    record = speed.measure_student(1, ((1, 1), (2, 2)))
    assert {"plain / dirichlet", "logit_gaussian / deterministic"} <= record["ratios"]["batch 2"].keys()
    assert record["ratios"]["training step"]["online / cached"]["median"] > 1


def test_the_command_writes_what_it_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "RESULTS", tmp_path)
    monkeypatch.setattr(speed, "KINDS", {name: speed.KINDS[name] for name in ("LSTM", "a buffer that changes")})
    monkeypatch.setattr(speed, "compare_kind", lambda name, rounds: f"{name}, {rounds} rounds")
    monkeypatch.setattr(sys, "argv", ["speed.py", "kinds", "--rounds", "2"])
    speed.main()
    kinds = json.loads((tmp_path / "kinds.json").read_text())["kinds"]
    assert kinds == {name: f"{name}, 2 rounds" for name in speed.KINDS}


def test_the_moments_of_a_network_are_compared_with_a_loop():
    kind = speed.compare_kind("one dropout in two places", 1, passes=300)
    assert kind["mean_z"]["largest"] < 5 and abs(kind["total_variance"]["z"]) < 5
    assert "calls" in speed.compare_kind("a buffer that changes", 1)["refused"]
