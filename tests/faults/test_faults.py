"""A sample of the faults, from each kind of them; `python -m tests.faults` tries all."""

import time

import pytest

from tests.faults.__main__ import ALL, attempt, outcome
from tests.faults.__main__ import BAD as VALUES

BROKEN = [trial for trial in ALL if trial.startswith("file") and int(trial.split()[2]) < 8]
BAD = [trial for trial in ALL if trial.startswith(("setting sampling", "setting teacher", "setting student"))][::40]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.mark.parametrize(
    "trial", [*BROKEN, *BAD, "kill teacher 0", "kill student 1", "disk student 1", "disk evaluate 2"]
)
def test_a_fault_is_survived_or_named(folder, no_plots, trial):
    assert attempt(folder, trial) in ("held", "clear")


def test_a_trial_can_fail():
    assert all(outcome(trial, seconds=1).startswith("wrong") for trial in (lambda: {}["x"], lambda: time.sleep(9)))


def test_a_setting_of_the_evaluation_is_tried(folder, no_plots):
    """Labels that are no file are left out; evaluate.py does not refuse them as settings of another run."""
    assert attempt(folder, f"setting evaluation.human_labels {VALUES.index('wrong')}") == "held"
