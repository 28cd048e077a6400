"""What measures speed, itself: that the contenders do the same, that times go to the right part, that the page says
what the files say."""

import importlib.util
from types import SimpleNamespace

import pytest
import torch
from training.loop import Task

import uncertainty.speed
from models.architecture import Architecture
from models.networks import build
from speed import measuring, page, pipeline, sampling, student
from speed.contenders import deterministic, ours, plain, torch_uncertainty
from speed.exported import teacher_file
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
    for module in (uncertainty.speed, pipeline):
        monkeypatch.setattr(module, "time", clock)
    return clock


def test_every_contender_samples_the_same_distribution():
    torch.manual_seed(0)
    network = build(Architecture("vgg5", 0.125, 8, 3, 3, conv_dropout=0.2, head_dropout=0.5)).eval()
    images, passes = torch.randint(0, 256, (6, 8, 8, 3), dtype=torch.uint8), 2000
    network.normalize.fit([images])
    found = [plain(network, images, 4, passes, "float32"), plain(network, images, 4, passes)]
    file = teacher_file(network, images[:1], passes)
    found.append(torch.cat([file(image) for image in images.split(1)]))
    found += [ours(Sampler(network), images, 4, masks, passes) for masks in ("grouped", "independent")]
    if importlib.util.find_spec("torch_uncertainty"):
        found += [
            torch_uncertainty(network, images, size, on_batch, passes)
            for size, on_batch in ((2 * passes, True), (4, False))
        ]
    first, *others = (log_probs.exp() for log_probs in found)
    assert first.var(1).mean() > 0.01
    error = (2 * first.var(1) / passes).sqrt()
    for probs in others:
        assert probs.shape == (6, passes, 3)
        assert ((probs.mean(1) - first.mean(1)).abs() < 5 * error + 0.005).all()  # bfloat16 rounds
        torch.testing.assert_close(probs.var(1), first.var(1), rtol=0.25, atol=1e-3)
    assert deterministic(network, images, 4, passes=3).var(1).max() < 1e-9


def test_works_are_measured_in_turn_and_compared_round_by_round(clock):
    done = []

    def work(name: str, *seconds: float):
        left = list(seconds)
        return lambda: (done.append(name), clock.takes(left.pop(0))())

    seconds = uncertainty.speed.in_turn({"a": work("a", 9, 2, 6), "b": work("b", 9, 1, 2)}, 2, "")
    assert done == list("ababab") and seconds == {"a": [2, 6], "b": [1, 2]}
    assert measuring.ratio(seconds, "a", "b") == [2, 3]
    assert measuring.fastest({8: work("", 0, 3, 1), 16: work("", 0, 2, 2)}, "") == 8


def test_a_steps_time_goes_to_its_parts(clock, monkeypatch):
    layer = torch.nn.Linear(1, 1)
    monkeypatch.setattr(torch.Tensor, "backward", clock.takes(3))
    optimizer = SimpleNamespace(zero_grad=lambda set_to_none: None, step=clock.takes(4))
    task = Task(
        layer, optimizer, 8, clock.takes(1), clock.takes(2, {"loss": torch.zeros(1)}), SimpleNamespace(batch_size=4)
    )
    assert pipeline.shares_of_a_step(task, 3) == {"data": 0.1, "forward": 0.2, "backward": 0.3, "optimizer": 0.4}


def test_the_page_puts_each_ratio_beside_its_goal():
    spread = {"plain_over_grouped": 4.1, "grouped_over_deterministic": 0.96, "plain_over_independent": 3.0}
    measured = {"spread": {key: measuring.middle([v - 1, v, v + 1]) for key, v in spread.items()}}
    found = {"sampling": measured, "student": {"spread": {}}, "scaling": {"spread": {}}}
    rows = {line.split("|")[1].strip(" `"): line for line in page.goals(found).splitlines()[2:]}
    assert "| ≥ 4 | 4.10 (3.10-5.10) | yes |" in rows["plain_over_grouped"]
    assert "| ≤ 0.95 | 0.96 (" in rows["grouped_over_deterministic"] and "**no**" in rows["grouped_over_deterministic"]
    assert "yes" not in rows["plain_over_independent"] and "| ≥ 1.8 | not measured | **no** |" in rows["two_over_one"]


def test_a_pass_costs_what_its_layers_do():
    shapes = [
        (3, 32, 32),
        (32, 64, 16),
        (64, 128, 8),
        (128, 128, 8),
        (128, 256, 4),
        (256, 256, 4),
        (256, 256, 2),
        (256, 256, 2),
    ]
    dense = [(256, 256), (256, 10)]
    operations = sum(2 * 9 * i * o * side**2 for i, o, side in shapes) + sum(2 * i * o for i, o in dense)
    numbers = sum((i + o) * side**2 for i, o, side in shapes) + sum(i + o for i, o in dense)
    assert sampling.cost_of_a_pass("vgg11") == (operations, numbers)


def test_arithmetic_and_memory_stand_beside_what_the_machine_can_do():
    network = {
        "flops_of_a_pass": 5e6,
        "numbers_moved_by_a_pass": 2000,
        "best_batch_size": {"plain": 64, "grouped": 500},
        "passes_per_s": {"plain": measuring.middle([9.0, 10, 11]), "grouped": measuring.middle([40.0])},
        "flops_per_s": {"plain": 100e9, "grouped": 400e9, "matrix product": 800e9},
        "bytes_per_s": {"plain": 1e9, "grouped": 4e9, "copy": 20e9},
    }
    grouped, plain_loop = page.sampling({"networks": {"vgg11": network}}).splitlines()[4:6]  # the fastest first
    assert grouped == "| grouped | 500 | 40 (40-40) | 400 | 50% | 4.0 | 20% |"
    assert "8.0 times as fast as *plain*." in page.sampling({"networks": {"vgg11": network}})
    assert plain_loop == "| plain | 64 | 10 (9-11) | 100 | 12% | 1.0 | 5% |"


def test_the_page_is_what_the_files_give():
    assert page.PAGE.read_text() == page.text(), "python -m speed.page"


def test_the_measured_training_steps_are_steps_of_the_trainer():
    assert {name: len(seconds) for name, seconds in student.steps(1).items()} == {"cached step": 1, "online step": 1}
