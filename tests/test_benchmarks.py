"""What measures speed, itself: that the contenders do the same, that times go to the right part, that the page says what the files say."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from benchmarks import measuring, page, pipeline, scaling
from benchmarks.contenders import deterministic, ours, plain
from uncertainty.mc_dropout import Sampler


class Clock:
    """Time that passes only when somebody says so."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def takes(self, seconds: float, result=None):
        def work(*_):
            self.now += seconds
            return result

        return work


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    for module in (measuring, pipeline):
        monkeypatch.setattr(module, "time", clock)
    return clock


def test_every_contender_samples_the_same_distribution():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(16, 3))
    network[-1].weight.data *= 8
    images, passes = torch.randn(6, 2, 2, 3), 4000
    found = [
        plain(network, images, 4, passes, "float32").exp(),
        *(ours(Sampler(network), images, 4, masks, passes).exp() for masks in ("grouped", "independent")),
    ]
    for probs in found:
        assert probs.shape == (6, passes, 3)
        torch.testing.assert_close(probs.mean(1), found[0].mean(1), atol=0.02, rtol=0)
        torch.testing.assert_close(probs.var(1), found[0].var(1), atol=0.01, rtol=0)
    assert found[0].var(1).mean() > 0.05
    assert deterministic(network, images, 4, passes=3).var(1).max() < 1e-9


def test_works_are_measured_in_turn_and_compared_round_by_round(clock):
    done = []

    def work(name: str, *seconds: float):
        left = list(seconds)
        return lambda: (done.append(name), clock.takes(left.pop(0))())

    seconds = measuring.in_turn({"a": work("a", 9, 2, 6), "b": work("b", 9, 1, 2)}, 2, "")
    assert done == list("ababab") and seconds == {"a": [2, 6], "b": [1, 2]}
    assert measuring.ratio(seconds, "a", "b") == [2, 3]
    assert measuring.fastest({8: work("", 0, 3, 1), 16: work("", 0, 2, 2)}, "") == 8


def test_a_steps_time_goes_to_its_parts(clock, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "backward", clock.takes(3))

    def fit(model, optimizer, count, batch, losses, validate):
        batch(None)
        losses(None)
        torch.zeros(1).backward()
        clock.takes(4)()
        validate(None)
        return SimpleNamespace(seconds=110.0)

    parts = pipeline.Parts(SimpleNamespace(fit=fit))
    parts.watched(None, None, None, clock.takes(1), clock.takes(2), clock.takes(100))
    assert parts.seconds == {"data": 1, "forward": 2, "backward": 3, "other": 4}
    assert parts.shares() == {"data": 0.1, "forward": 0.2, "backward": 0.3, "other": 0.4}


@pytest.mark.parametrize("samples", [False, True])
def test_a_cache_takes_what_its_tensors_take(samples):
    images, passes, classes = 300, 4, 7
    found = scaling.cache_takes(images, passes, classes, samples)
    tensors = images * (16 + 8 * classes + 2 * passes * classes * samples)  # group and two measures; two of each class; float16
    assert tensors < found["disk"] < tensors + 2000


def test_the_page_puts_each_ratio_beside_its_goal():
    spread = {"plain_over_grouped": 4.1, "grouped_over_deterministic": 0.96, "plain_over_independent": 3.0}
    measured = {"spread": {key: measuring.middle([v - 1, v, v + 1]) for key, v in spread.items()}}
    found = {"sampling": measured, "student": {"spread": {}}, "scaling": {"spread": {}}}
    rows = {line.split("|")[1].strip(" `"): line for line in page.goals(found).splitlines()[2:]}
    assert "| ≥ 4 | 4.10 (3.10-5.10) | yes |" in rows["plain_over_grouped"]
    assert "| ≤ 0.95 | 0.96 (" in rows["grouped_over_deterministic"] and "**no**" in rows["grouped_over_deterministic"]
    assert "yes" not in rows["plain_over_independent"] and "not measured" in rows["two_over_one"]


def test_a_whole_run_is_judged_by_the_earlier_intervals():
    worth = {"a": [50.0, [49, 51]], "b": [20.0, [21, 30]]}
    run = {"stages_s": {"teacher": 3000, "reference": 9000, "student": 300}, "teacher_accuracy": 0.85, "worth_and_earlier_interval": worth}
    text = page.whole_run({"cifar10_cpu": run})
    assert "| ≤ 60 | 55 | yes |" in text and "| ≥ 0.84 | 0.850 | yes |" in text and "| all | 1 of 2 | **no** |" in text
