"""A sample of the faults, from each kind of them; `python -m tests.faults` tries all."""

import pytest

from tests.faults import trials
from tests.faults.__main__ import ALL, Bench

SAMPLE = [
    *(trial for trial in ALL if trial[0] == "file" and trial[2] < 16),
    *[trial for trial in ALL if trial[0] == "setting" and trial[1].startswith(("sampling", "teacher", "student"))][::20],
    ("kill", "teacher", 0), ("disk", "student", 1),
]  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    return Bench(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("trial", SAMPLE, ids=lambda trial: " ".join(map(str, trial)))
def test_a_fault_is_survived_or_named(bench, trial):
    assert bench.run(*trial) in ("held", "clear")


def test_a_trial_can_fail(bench):
    assert trials.outcome(lambda: False).startswith("wrong")
    assert trials.outcome(lambda: {}["x"]).startswith("wrong: KeyError")
