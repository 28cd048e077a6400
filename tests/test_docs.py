"""README and docs: every link leads somewhere, every short command runs, what is made from files is what they say."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import evaluate
import train_student
import train_teacher
from methods import STUDENTS
from methods.interface import StudentMethod
from plots.pages import PAGES, made
from training import artifact
from training.cli import parse
from uncertainty.point import Point

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "speed/README.md"]


@pytest.mark.parametrize("page", DOCS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [link for link in links if not link.startswith("http") and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_what_is_made_is_what_the_files_say(page):
    text = (ROOT / page).read_text()
    assert made(text) == text, "python -m plots.pages"


@pytest.mark.parametrize("page", ["README.md", "docs/use.md"])
def test_the_config_for_own_images_works_as_it_stands(page, tmp_path, monkeypatch):
    """With as few images as a first try has; only the size of the network and its epochs are changed, for time."""
    monkeypatch.chdir(tmp_path)
    for split, count in (("train", 30), ("test", 6)):
        for c, name in enumerate(("robin", "wren", "heron")):
            (tmp_path / "datasets/birds" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.random.default_rng(i).integers(80 * c, 80 * c + 96, (40, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / f"datasets/birds/{split}/{name}/{i}.png")
    shutil.copytree(tmp_path / "datasets/birds/test/wren", tmp_path / "datasets/aeroplanes")
    (config,) = re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    Path("birds.yaml").write_text(config)
    small = ["--teacher.width", "0.125", "--student.width", "0.125", "--teacher.epochs", "2", "--student.epochs", "2"]
    settings, _ = parse(
        ["--config", "birds.yaml", *small, "--evaluation.passes", "4", "--evaluation.speed_images", "4"]
    )
    for script in (train_teacher, train_student, evaluate):
        script.main(settings, overwrite=False)
    metrics = json.loads(Path("runs/birds/metrics.json").read_text())
    assert metrics["student"]["accuracy"] >= 0 and Path("runs/birds/plots/teacher_against_student.png").exists()


def commands() -> list[str]:
    """Every command of README and docs that reads settings."""
    shown = "\n".join(page.read_text() for page in DOCS)
    lines = re.findall(
        r"^((?:python|\./run\.sh|torchrun) [^#\n]*)|`((?:python|\./run\.sh|torchrun) [^`]*)`", shown, re.MULTILINE
    )
    tested_elsewhere = r"-m |predict\.py|export\.py|experiments/|docs/examples/.*py"
    return sorted({line for both in lines if not re.search(tested_elsewhere, line := "".join(both).strip())})


@pytest.mark.parametrize("command", commands())
def test_every_command_is_accepted(command, tmp_path, monkeypatch):
    """By the parser of its script: most take too long to be run. Those of predict.py, export.py and experiments/ have
    tests of their own, and so have the birds' stages, below."""
    monkeypatch.chdir(tmp_path)
    for folder in ("configs", "docs"):
        Path(folder).symlink_to(ROOT / folder)
    Path("birds.yaml").write_text("name: birds")
    words = shlex.split(command)
    script = next(word for word in words if word.endswith((".py", "run.sh")))
    options = words[words.index(script) + 1 :]
    config, _ = parse(["--config", *options] if script == "./run.sh" and options else options)
    assert config.name in command or config.name in ("digits", "fidelity", "two_moons", "comparison")


def test_the_yardstick_in_six_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    alpha = rng.gamma(1.0, 2.0, (400, 3)) + 0.1
    draws = np.stack([rng.dirichlet(a, 70) for a in alpha])
    np.savez(
        "mine.npz",
        student=draws[:, 60:].var(1).sum(-1),
        half_a=draws[:, :30],
        half_b=draws[:, 30:60],
        groups=np.arange(400),
    )
    (code,) = [
        code
        for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs/method.md").read_text(), re.DOTALL)
        if "mine.npz" in code
    ]
    exec(code)
    found = eval(capsys.readouterr().out)
    assert 6 < found["equivalent_passes"] < 15 and not found["censored"]  # it was made of ten passes


def test_the_lines_of_python_for_use(tiny, monkeypatch):
    """What `docs/use.md` does with a finished run: predictions, and a plot of one image's passes."""
    monkeypatch.chdir(Path(tiny.runs).parent)
    tiny.teacher.epochs = tiny.student.epochs = 1
    tiny.sampling.passes = 16
    train_teacher.main(tiny, overwrite=False)
    train_student.main(tiny, overwrite=False)
    names = {"images": torch.zeros(2, 8, 8, 1, dtype=torch.uint8)}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs/use.md").read_text(), re.DOTALL):
        exec(code, names)
    assert names["distribution"].mean.shape == (2, 10) and names["samples"].shape[1:] == (16, 10)
    (line, *others), axes = names["plt"].gca().lines, names["plt"].gca()
    assert (
        len(others) == 15
        and line.get_ydata() == pytest.approx(names["samples"][0, 0].numpy())
        and axes.get_ylim()[1] <= 1.1
    )
    assert Path("passes.png").stat().st_size > 1000


def test_the_student_that_is_shown_is_plain_distillation(tiny, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.DOTALL)
    names = {"Point": Point, "F": F, "StudentMethod": StudentMethod}
    exec(code, names)
    monkeypatch.setitem(STUDENTS, "mean_only", names["METHOD"])
    tiny.student.epochs = 1
    train_teacher.main(tiny, overwrite=False)
    losses = []
    for method in ("mean_only", "end"):
        tiny.student.method, tiny.name, tiny.teacher_of = method, method, "digits"
        train_student.main(tiny, overwrite=False)
        losses.append(artifact.load(tiny.folder / "student.safetensors", "student")[1]["history"][0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
