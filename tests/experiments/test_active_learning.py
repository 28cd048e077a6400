"""Active learning on a few digits: what is acquired, what it costs, and that a second call continues."""

import json
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from conftest import random_images
from test_dirty_mnist import digits

from configs.schema import Data, DataSet
from experiments import acquisitions, ambiguous_digits
from experiments import active_learning as experiment

SMALL = experiment.Settings(last=20, epochs=1, seeds=1)


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    """Digits as clean images, and noise as ambiguous ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment, "CLEAN", 100)
    monkeypatch.setattr(acquisitions, "DISTILLED", 64)
    monkeypatch.setattr(acquisitions, "EPOCHS", 1)
    noise = {"train_ambiguous": random_images(60, 28, 28, 1), "train_ambiguous_labels": random_images(60, 3) % 10}
    train, test = (digits(DataSet("mnist"), split, Data(size=28, channels=1)) for split in ("train", "test"))
    monkeypatch.setattr(ambiguous_digits, "load_digits", lambda: (train, test, noise))
    return train, test, *map(torch.from_numpy, noise.values())


def test_every_acquisition_runs_and_a_second_call_continues(arrays, monkeypatch):
    experiment.main(SMALL)
    record = json.loads(Path("results/active_learning/active_learning.json").read_text())
    assert record["curves"].keys() == experiment.ACQUISITIONS.keys()
    for curves in record["curves"].values():
        assert curves["0"]["labels"] == [20] and curves["0"]["ambiguous"] == [0]
    monkeypatch.setattr(experiment, "learn", lambda *_: pytest.fail("a finished curve was made again"))
    experiment.main(SMALL)


def test_the_highest_scores_are_acquired_and_never_twice(arrays):
    train, test, ambiguous, labels = arrays
    pool, clean = experiment.make_pool(train, ambiguous, labels, 0)
    assert clean.sum() == 100 and torch.equal(pool.images[100:], ambiguous)
    ambiguous_first = Mock(side_effect=lambda state: torch.arange(len(state.pool)).float())
    curve = experiment.learn(ambiguous_first, pool, clean, test, 0, experiment.Settings(last=40, epochs=1))
    first, _, last = (call.args[0].labelled for call in ambiguous_first.call_args_list)
    assert first.bincount().max() == 1 and pool.labels[first].bincount().tolist() == 10 * [2]
    assert last[20:].tolist() == list(range(159, 139, -1)) and curve["ambiguous"] == [0.0, 1.0, 1.0]


def test_the_size_from_which_a_student_pays():
    """Distillation: 8 s; 100 images take 5 s by many passes, 2 s by few and 1 s by the student: 200 and 800 images are
    worth it. An old student costs 1 s in three of four steps."""
    seconds = {"teacher (BALD)": 5.0, "teacher, few passes": 2.0, "student": 3.0, "student of every step": 9.0}
    assert experiment.pays_from(seconds, 100, 8) == pytest.approx([200, 800])
