"""Concrete dropout against dropout and closed forms, and the experiment, shortened, on the digits."""

import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from scipy.stats import bernoulli

from experiments import concrete_dropout as experiment
from experiments.concrete import ConcretePerceptrons, concrete


def test_a_relaxed_mask_is_nearly_a_mask_of_its_rate():
    torch.manual_seed(0)
    logit = torch.tensor(math.log(0.2 / 0.8), requires_grad=True)
    y = concrete(torch.ones(200_000), logit)
    assert [y.mean().item(), (y < 0.5).float().mean().item()] == pytest.approx([1, 0.2], abs=0.01)
    assert y.var().item() == pytest.approx(0.25, abs=0.05)  # p / (1 − p); a relaxed mask varies a little less
    y.square().mean().backward()
    assert logit.grad > 0  # a higher rate, a higher variance


def test_the_regularizer_is_that_of_the_paper():
    torch.manual_seed(0)
    networks = ConcretePerceptrons([1, 4, 3, 2], 2)
    entropy = bernoulli(0.1).entropy()
    for b, regularizer in enumerate(networks.regularizer(50, 0.5).tolist()):
        squares = [weight[b].square().sum().item() for weight in networks.weights]
        expected = (0.25 / 2 * (squares[0] + (squares[1] + squares[2]) / 0.9) - (4 + 3) * entropy) / 50
        assert regularizer == pytest.approx(expected, rel=1e-5)


def test_both_parts_run_and_an_ordinary_teacher_gets_the_rates(tmp_path, monkeypatch):
    settings = yaml.safe_load(Path("configs/digits.yaml").read_text()) | {"evaluation": {"passes": 4}}
    settings["teacher"] |= {"epochs": 1, "batch_size": 128, "width": 0.125}
    settings["data"]["validation"] = 200
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment, "PASSES", 4)
    Path("teacher.yaml").write_text(yaml.safe_dump(settings))
    experiment.main(experiment.Settings(points=[32, 64], steps=5, teacher="teacher.yaml"))
    record = json.loads(Path("results/concrete_dropout/concrete_dropout.json").read_text())
    conv, head = record["cifar"]["learned"]["0.1"]
    assert len(conv) == 3 and len(head) == 2 and 0.1 not in conv + head
    assert 0.3 not in sum(record["cifar"]["learned"]["0.3"], [])
    trained = yaml.safe_load(Path("runs/concrete_dropout/learned/config.yaml").read_text())["teacher"]
    assert trained["conv_dropout"] == conv and trained["head_dropout"] == head
    assert record["cifar"]["teachers"].keys() == {"usual rates", "learned rates"}
