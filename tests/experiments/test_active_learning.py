"""Active learning on a few digits: what is acquired, what it costs, and that a second call continues."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_dirty_mnist import digits

from configs.schema import Data, DataSet
from experiments import active_learning as experiment
from experiments import dirty_mnist
from training.compute import choose

SMALL = experiment.Settings(
    **{
        "clean": 100,
        "ambiguous": 60,
        "last": 40,
        "epochs": 5,
        "passes": 40,
        "few_passes": 2,
        "again": 2,
        "distilled": 64,
        "student_epochs": 1,
        "seeds": 1,
    }
)


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Digits as clean images, and noise as ambiguous ones."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    noise = {
        "train_ambiguous": rng.integers(0, 256, (60, 28, 28, 1), np.uint8),
        "train_ambiguous_labels": rng.integers(0, 10, (60, 3)),
    }
    dirty_mnist.IMAGES.parent.mkdir()
    np.savez(dirty_mnist.IMAGES, **noise)
    train, test = (digits(DataSet("mnist"), split, Data(size=28, channels=1)) for split in ("train", "test"))
    monkeypatch.setattr(dirty_mnist, "digits_of", lambda _: (train, test))
    return train, test


def test_every_acquisition_runs_and_a_second_call_continues(sets, monkeypatch):
    experiment.main(SMALL)
    record = json.loads(Path("results/active_learning/active_learning.json").read_text())
    assert record["curves"].keys() == experiment.ACQUISITIONS.keys() == experiment.COLOURS.keys()
    for name, curves in record["curves"].items():
        assert curves["0"]["labels"] == [20, 30, 40] and curves["0"]["ambiguous"][0] == 0
    seconds = record["seconds"]
    assert (
        seconds["teacher, few passes"] < seconds["teacher (BALD)"]
        and seconds["student"] < seconds["student of every step"]
    )
    assert (
        "A student of every step is cheaper than 40 passes for pools above"
        in Path("results/active_learning/README.md").read_text()
    )
    monkeypatch.setattr(experiment, "curve", None)
    experiment.main(SMALL)


def test_the_highest_scores_are_acquired_and_never_twice(sets):
    torch.manual_seed(0)
    pool, clean = experiment.pool_of(sets[0], 0, SMALL)
    assert clean.sum() == 100 and torch.equal(
        pool.images[:100].float().mean((1, 2, 3)) > 0, torch.ones(100, dtype=torch.bool)
    )
    seen = []

    def ambiguous_first(state: experiment.State) -> torch.Tensor:
        seen.append(state.labelled)
        return torch.arange(len(state.pool)).float()

    found = experiment.curve(ambiguous_first, pool, clean, sets[1], 0, SMALL, choose("cpu", "float32"), "test")
    assert seen[0].bincount().max() == 1 and torch.equal(
        pool.labels[seen[0]].sort().values, torch.arange(10).repeat_interleave(2)
    )
    assert seen[2][20:].tolist() == list(range(159, 139, -1)) and found["ambiguous"] == [0.0, 1.0, 1.0]


def test_the_size_from_which_a_student_pays():
    """Distillation: 8 s; 100 images take 5 s by many passes, 2 s by few and 1 s by the student: 200 and 800 images are
    worth it."""
    seconds = {
        "teacher (BALD)": 5.0,
        "teacher, few passes": 2.0,
        "student": 1.0 + 8.0 / 4,
        "student of every step": 1.0 + 8.0,
    }
    found = experiment.pays_from(seconds, {"clean": 40, "ambiguous": 60, "again": 4})
    assert found == pytest.approx({"teacher (BALD)": 200, "teacher, few passes": 800})
