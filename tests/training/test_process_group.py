"""Several processes as one run: two of them, by torchrun and gloo, against one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY, leave_out_plots
from training.cli import parse

import evaluate
import train_student
import train_teacher
from configs.errors import UserError
from configs.schema import McDropout
from data.dataset import Dataset
from data.views import make_views
from models.architecture import Architecture
from models.vgg import vgg
from training import artifact, process_group
from training.run import begin
from uncertainty.cache import KIND, SampleCache
from uncertainty.distribution import MEASURES
from uncertainty.mc_dropout import Sampler

ROOT = Path(__file__).parents[2]
STAGES = """
import json
import sys
sys.path.insert(0, ".")
import evaluate
import train_student
import train_teacher
from training import cli, process_group

evaluate.draw, evaluate.save = lambda *_: {}, lambda *_: None

def work():
    with process_group.started():
        for stage, options in json.loads(sys.argv[-1]):
            globals()[stage].main(*cli.parse(options))

cli.guard(work)
"""
DIES = """
import os
import sys
sys.path.insert(0, ".")
import train_teacher
from training import cli, loop, process_group

original = loop._train_epoch

def train_epoch(*arguments):
    if process_group.rank() == 1 and loop.seen:
        os._exit(3)
    loop.seen = True
    return original(*arguments)

loop.seen = False
loop._train_epoch = train_epoch
cli.main(train_teacher.main, "")
"""


def options_of(runs: Path, name: str, *options: str) -> list[str]:
    """The tiny settings of a run."""
    return [*TINY, "--dtype", "float32", "--device", "cpu", "--runs", str(runs), "--name", name, *options]


def start(script: str | Path, *options: str, timeout: float = 240) -> subprocess.CompletedProcess:
    """Run a script in two processes, as a user does."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
        *options,
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A teacher by two processes, and of it students and an evaluation by two and by one; the samples of two are in
    `of_two`."""
    runs = tmp_path_factory.mktemp("runs")
    end = ["--student.method", "end", "--student.lr", "1e-3", "--teacher_of", "two"]
    stages = [
        ("train_teacher", "two"),
        ("train_student", "two"),
        ("train_student", "end_two", *end),
        ("evaluate", "two"),
    ]
    script = runs / "stages.py"  # all in one torchrun: to start processes takes longer than what they do
    script.write_text(STAGES)
    done = start(script, json.dumps([(stage, options_of(runs, *rest)) for stage, *rest in stages]))
    assert done.returncode == 0, done.stderr
    logged = [
        line.split(" ", 2)[2]
        for name in ("two", "end_two")
        for line in (runs / name / "log.txt").read_text().splitlines()
    ]
    assert sorted(line for line in done.stdout.splitlines() if line.startswith("[")) == sorted(
        logged
    )  # one process prints
    (runs / "two/mc_samples").rename(runs / "of_two")
    with pytest.MonkeyPatch.context() as patch:
        leave_out_plots(patch)
        for stage in (train_student, evaluate):
            stage.main(*parse(options_of(runs, "one", "--teacher_of", "two", "--overwrite")))
    train_student.main(*parse(options_of(runs, "end_one", *end)))
    return runs


def test_samples_are_the_same_for_any_number_of_processes(runs):
    files = sorted(path.name for path in (runs / "of_two").iterdir())
    assert files == sorted(path.name for path in (runs / "two/mc_samples").iterdir())
    assert len(files) == 9 and all(name.endswith(".safetensors") for name in files)  # no share is left over
    for name in files:
        two, one = (artifact.load(runs / folder / name, KIND) for folder in ("of_two", "two/mc_samples"))
        assert two[1]["request"] == one[1]["request"] and two[1]["groups"] == one[1]["groups"]
        assert two[0].keys() == one[0].keys()
        assert all(torch.equal(two[0][key], one[0][key]) for key in one[0])


def test_a_student_without_batch_norm_of_its_own_is_the_same_but_for_rounding(runs):
    teacher = artifact.load(runs / "two/teacher.safetensors", "teacher")[0]
    two, one = (artifact.load(runs / name / "student.safetensors", "student")[0] for name in ("end_two", "end_one"))
    learnt = [name for name in teacher if name.endswith(("weight", "bias"))]
    movement, difference = (
        sum((a[f"network.{name}"] - b).square().sum() for name, b in other.items() if name in learnt).sqrt()
        for a, other in ((one, teacher), (one, {name: two[f"network.{name}"] for name in learnt}))
    )
    assert difference < 0.02 * movement


def test_the_metrics_of_a_student_are_nearly_the_same(runs):
    two, one = (json.loads((runs / name / "metrics.json").read_text()) for name in ("two", "one"))
    assert two["student"]["accuracy"] == pytest.approx(one["student"]["accuracy"], abs=0.01)
    for name, found in one["agreement"].items():
        for measure in MEASURES:
            assert two["agreement"][name][measure]["pearson"] == pytest.approx(found[measure]["pearson"], abs=0.03), (
                name,
                measure,
            )


def test_a_teacher_of_two_processes_learns_as_one_does(runs):
    train_teacher.main(*parse(options_of(runs, "alone")))
    lines = [(runs / name / "log.txt").read_text().count("[teacher]") for name in ("two", "alone")]
    assert lines[0] == lines[1] > 5
    two, alone = (artifact.load(runs / name / "teacher.safetensors", "teacher")[1]["best"] for name in ("two", "alone"))
    assert two == pytest.approx(alone, abs=0.1)  # accuracy: other images are flipped and other units dropped


def test_when_a_process_dies_the_others_end_and_the_same_command_goes_on(tmp_path):
    script = tmp_path / "dies.py"
    script.write_text(DIES)
    done = start(script, *options_of(tmp_path, "dies"), timeout=120)
    assert done.returncode != 0 and "exitcode  : 3" in done.stderr and "rank      : 1" in done.stderr
    assert not (tmp_path / "dies/teacher.safetensors").exists()
    done = start("train_teacher.py", *options_of(tmp_path, "dies"))
    assert done.returncode == 0 and "continues after epoch 1" in done.stdout
    assert len(artifact.load(tmp_path / "dies/teacher.safetensors", "teacher")[1]["history"]) == 5


def test_shards_of_several_processes_are_put_together_by_fewer(tiny, monkeypatch):
    """As when two of three had done their share, and the command is given again to one alone."""
    images = torch.randint(0, 256, (10, 8, 8, 1), dtype=torch.uint8)
    dataset = Dataset("toy", images, torch.zeros(10, dtype=torch.long), [""] * 10, ["a"])
    (view,) = make_views(["plain"], dataset, tiny.data.augmentation, 0, torch.device("cpu"))
    torch.manual_seed(0)
    network = vgg(Architecture("vgg5", 0.125, 8, 1, 4, 0.2, 0.5)).eval()
    run, compute = begin(tiny, "test")
    settings = McDropout(passes=4, group_size=2)

    def get():
        return SampleCache(tiny, run, compute, 2 * (Sampler(network),), "t").get(
            dataset, "train", view, settings, False
        )

    whole = {name: value.clone() for name, value in get().items()}
    path = run / "mc_samples/toy-train-plain-0x4.safetensors"
    path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(process_group, "world_size", lambda: 3)
        patch.setattr(process_group, "barrier", lambda: None)
        for rank in (1, 2):
            patch.setattr(process_group, "rank", lambda rank=rank: rank)
            with pytest.raises(UserError, match="no such file"):  # which the first process would have written
                get()
        assert len(list(path.parent.glob("*.partial*"))) == 2
    merged = get()
    assert "3 groups there already" in (run / "log.txt").read_text()
    assert merged.keys() == whole.keys() and all(torch.equal(merged[name], whole[name]) for name in whole)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_share_of_rows_and_all_of_them(monkeypatch):
    rows = torch.arange(7)
    monkeypatch.setattr(process_group, "world_size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(process_group, "rank", lambda: rank)
        shares.append(process_group.shard(rows).tolist())
    assert shares == [[0, 1, 2], [3, 4, 5], [6]]
