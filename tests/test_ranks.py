"""Several processes as one run: two of them, by torchrun and gloo, against one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY

from configs import artifact, ranks
from uncertainty.distribution import MEASURES

ROOT = Path(__file__).parent.parent
DIES = """
import os
import sys
sys.path.insert(0, ".")
import train_teacher
from configs import cli, ranks
from models import training

original = training._train_epoch

def train_epoch(*arguments):
    if ranks.rank() == 1 and training.seen:
        os._exit(3)
    training.seen = True
    return original(*arguments)

training.seen = False
training._train_epoch = train_epoch
cli.main(train_teacher.main, "")
"""


def start(script: str | Path, *options: str | Path, processes: int = 2, timeout: float = 240) -> subprocess.CompletedProcess:
    """Run a script with the tiny settings, as a user does."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    command = [sys.executable, *launcher, script, *TINY, "--dtype", "float32", *options]
    return subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A teacher by two processes, and of it a student and an evaluation by two and by one; the samples of two are in `of_two`."""
    runs = tmp_path_factory.mktemp("runs")
    for script in ("train_teacher.py", "train_student.py", "evaluate.py"):
        done = start(script, "--runs", runs, "--name", "two")
        assert done.returncode == 0, done.stderr
    (runs / "two/mc_samples").rename(runs / "of_two")
    for script in ("train_student.py", "evaluate.py"):
        done = start(script, "--runs", runs, "--name", "one", "--teacher_of", "two", "--overwrite", processes=1)
        assert done.returncode == 0, done.stderr
    return runs


def test_samples_are_the_same_for_any_number_of_processes(runs):
    files = sorted(path.name for path in (runs / "of_two").iterdir())
    assert files == sorted(path.name for path in (runs / "two/mc_samples").iterdir())
    assert len(files) == 9 and all(name.endswith(".safetensors") for name in files)  # no share is left over
    for name in files:
        two, one = (artifact.load(runs / folder / name) for folder in ("of_two", "two/mc_samples"))
        assert two[1]["request"] == one[1]["request"] and two[1]["groups"] == one[1]["groups"]
        assert two[0].keys() == one[0].keys()
        assert all(torch.equal(two[0][key], one[0][key]) for key in one[0])


def test_a_student_is_nearly_the_same_and_so_are_its_metrics(runs):
    two, one = (artifact.load(runs / name / "student.safetensors")[0] for name in ("two", "one"))
    for name in one:
        if name.startswith("network."):  # the perceptron's batch norm counts the images of its own process
            torch.testing.assert_close(two[name], one[name], rtol=0, atol=5e-4)
    two, one = (json.loads((runs / name / "metrics.json").read_text()) for name in ("two", "one"))
    assert two["student"]["accuracy"] == pytest.approx(one["student"]["accuracy"], abs=0.01)
    for name, found in one["agreement"].items():
        for measure in MEASURES:
            assert two["agreement"][name][measure]["pearson"] == pytest.approx(found[measure]["pearson"], abs=0.01), (name, measure)


def test_one_process_writes_and_prints(runs):
    done = start("train_teacher.py", "--runs", runs, "--name", "alone", processes=1)
    lines = [(runs / name / "log.txt").read_text().count("[teacher]") for name in ("two", "alone")]
    assert lines[0] == lines[1] > 5
    assert done.stdout.count("\n") == lines[0]
    two, alone = (artifact.read_metadata(runs / name / "teacher.safetensors")["best"] for name in ("two", "alone"))
    assert two == pytest.approx(alone, abs=0.1)  # accuracy: other images are flipped and other units dropped


def test_when_a_process_dies_the_others_end_and_the_same_command_goes_on(tmp_path):
    script = tmp_path / "dies.py"
    script.write_text(DIES)
    done = start(script, "--runs", tmp_path, "--name", "dies", timeout=120)
    assert done.returncode != 0 and "exitcode  : 3" in done.stderr and "rank      : 1" in done.stderr
    assert not (tmp_path / "dies/teacher.safetensors").exists()
    done = start("train_teacher.py", "--runs", tmp_path, "--name", "dies")
    assert done.returncode == 0 and "continues after epoch 1" in done.stdout
    assert len(artifact.read_metadata(tmp_path / "dies/teacher.safetensors")["history"]) == 5


def test_a_share_of_rows_and_all_of_them(monkeypatch):
    rows = torch.arange(7)
    monkeypatch.setattr(ranks, "count", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(ranks, "rank", lambda: rank)
        shares.append(ranks.share(rows).tolist())
    assert shares == [[0, 1, 2], [3, 4, 5], [6]]
