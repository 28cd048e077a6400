"""Several processes as one run: two of them, by torchrun and gloo, against one."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, leave_out_plots, run_stages

from configs.cli import parse
from training import artifact
from uncertainty.cache import KIND
from uncertainty.distribution import MEASURES

WORK = """
import json
import sys
sys.path[:0] = [".", "tests"]
import pytest
from conftest import leave_out_plots, run_stages
from configs.cli import parse
from training import process_group, script

def work():
    leave_out_plots(pytest.MonkeyPatch())
    with process_group.started():
        for stage, options in json.loads(sys.argv[-1]):
            run_stages(parse(options)[0], stage)

script.guard(work)
"""
DIES = """
import os
import runpy
import sys
sys.path[:0] = [".", "tests"]
from conftest import after_each_step

with after_each_step(lambda number, _: os._exit(3) if os.environ["RANK"] == "1" and number == 25 else None):
    runpy.run_path("train_teacher.py", run_name="__main__")
"""


def options_of(runs: Path, name: str, *options: str) -> list[str]:
    """The tiny settings of a run."""
    return [*TINY, "--dtype", "float32", "--device", "cpu", "--runs", str(runs), "--name", name, *options]


def start(script: str | Path, *options: str) -> subprocess.CompletedProcess:
    """Run a script in two processes, as a user does."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, str(script), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A teacher by two processes, and of it students and an evaluation by two and by one; the samples of two are in
    `of_two`."""
    runs = tmp_path_factory.mktemp("runs")
    end = ["--student.method", "end", "--student.lr", "1e-3", "--teacher_of", "two"]
    stages = [("teacher", "two"), ("student", "two"), ("student", "end_two", *end), ("evaluate", "two")]
    script = runs / "stages.py"  # all in one torchrun: to start processes takes longer than what they do
    script.write_text(WORK)
    done = start(script, json.dumps([(stage, options_of(runs, *rest)) for stage, *rest in stages]))
    assert done.returncode == 0, done.stderr
    logged = [len((runs / name / "log.txt").read_text().splitlines()) for name in ("two", "end_two")]
    assert sum(line.startswith("[") for line in done.stdout.splitlines()) == sum(logged)  # one process prints
    (runs / "two/mc_samples").rename(runs / "of_two")
    with pytest.MonkeyPatch.context() as patch:
        leave_out_plots(patch)
        run_stages(parse(options_of(runs, "one", "--teacher_of", "two"))[0], "student", "evaluate")
    run_stages(parse(options_of(runs, "end_one", *end))[0], "student")
    return runs


def test_samples_are_the_same_for_any_number_of_processes(runs):
    files = sorted(path.name for path in (runs / "of_two").iterdir())
    assert files == sorted(path.name for path in (runs / "two/mc_samples").iterdir())
    assert files and all(name.endswith(".safetensors") for name in files)  # no share is left over
    for name in files:
        two, one = (artifact.load(runs / folder / name, KIND)[0] for folder in ("of_two", "two/mc_samples"))
        torch.testing.assert_close(two, one, rtol=0, atol=0)


def test_a_student_without_batch_norm_of_its_own_is_the_same_but_for_rounding(runs):
    teacher = artifact.load(runs / "two/teacher.safetensors", "teacher")[0]
    two, one = (artifact.load(runs / name / "student.safetensors", "student")[0] for name in ("end_two", "end_one"))
    learnt = [name for name in teacher if name.endswith(("weight", "bias"))]
    start = torch.cat([teacher[name].flatten() for name in learnt])
    ends = [torch.cat([of[f"network.{name}"].flatten() for name in learnt]) for of in (one, two)]
    assert torch.dist(*ends) < 0.02 * torch.dist(ends[0], start)


def test_the_metrics_of_a_student_are_nearly_the_same(runs):
    two, one = (json.loads((runs / name / "metrics.json").read_text()) for name in ("two", "one"))
    # The tiny teacher is right on 42% of the images, so the accuracy depends on the CPU: .034 apart on one with AMX.
    for score, bound in (("accuracy", 0.05), ("nll", 0.03), ("brier", 0.01)):
        assert two["student"][score] == pytest.approx(one["student"][score], abs=bound), score
    for name, measure in product(one["agreement"], MEASURES):
        pearson = [of["agreement"][name][measure]["pearson"] for of in (two, one)]
        assert pearson[0] == pytest.approx(pearson[1], abs=0.03), name


def test_when_a_process_dies_the_others_end_and_the_same_command_goes_on(tmp_path):
    script = tmp_path / "dies.py"
    script.write_text(DIES)
    done = start(script, *options_of(tmp_path, "dies"))
    assert done.returncode != 0 and "exitcode  : 3" in done.stderr and "rank      : 1" in done.stderr
    assert not (tmp_path / "dies/teacher.safetensors").exists()
    done = start("train_teacher.py", *options_of(tmp_path, "dies"))
    assert done.returncode == 0 and "continues after epoch 1" in done.stdout
    assert len(artifact.load(tmp_path / "dies/teacher.safetensors", "teacher")[1]["history"]) == 5
