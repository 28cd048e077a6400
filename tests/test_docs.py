"""README and docs: every link leads somewhere, every command is accepted, what is made from files is what they say, and
the code that is shown runs."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, random_images, run_stages, save_images
from torch import nn

import train_student
from configs.cli import parse
from configs.schema import dataclass
from methods import STUDENTS
from methods.interface import Method
from plots import records
from plots.decisions import passes_that_decide
from plots.methods import kept_shares
from plots.pages import PAGES, made
from training import artifact
from uncertainty.delta import Delta

DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "speed/README.md"]
TESTED_ELSEWHERE = r"-m |predict\.py|export\.py|experiments/|docs/examples/.*py"


def code_of(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", DOCS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES)
def test_what_is_made_is_what_the_files_say(page):
    text = (ROOT / page).read_text()
    assert made(text) == text, "python -m plots.pages"


def test_the_numbers_in_the_sentences_of_the_first_page():
    def metrics(run: str) -> dict:
        return artifact.read_json(ROOT / "results" / run / "metrics.json")

    def worth(run: str, measure: str = "total_variance") -> dict[str, float]:
        return {name: of[measure]["equivalent_passes"] for name, of in metrics(run)["agreement"].items()}

    def of_row(title: str, measure: str) -> float:
        seeds = records.load(ROOT / "results/comparison")[title]
        return np.mean([row["agreement"]["CIFAR-10"][measure]["equivalent_passes"] for row in seeds])

    vgg16, hundred = worth("cifar10_vgg16_half").values(), worth("cifar100_cpu").values()
    best, stratified = of_row("Dirichlet, ours", "total_variance"), "MC-dropout, 16 stratified passes"
    shares = kept_shares(records.load(ROOT / "results/ensemble_student"))["logit Gaussian, 120 epochs"]
    accuracy, nll, near, far, mnist = shares.values()
    full, digits = metrics("cifar10_cpu"), metrics("digits")
    enough, on_digits = (passes_that_decide(of["by_passes"]) for of in (full, digits))
    unknown = max(count for what, count in on_digits.items() if what != "errors")
    page = " ".join((ROOT / "README.md").read_text().split())
    for sentence in (
        f"{sum(full['stages_s'].values()) / 3600:.1f} on one CPU core beside other jobs",
        f"{min(enough.values())} to {max(enough.values())} passes of this teacher are as good as a hundred",
        f"unknown images take {unknown} passes, and one softmax is worse; errors take {on_digits['errors']}.",
        f"a student has {best:.0f} if its one pass agrees with the teacher as well as {best:.0f} other passes",
        f"the Dirichlet was worth {worth('cifar10_cpu_plain')['CIFAR-10']:.0f}. A student",
        f"[{min(vgg16):.0f} to {max(vgg16):.0f}](docs/results.md#vgg-16)",
        f"a hundred classes](docs/results.md#a-hundred-classes) {min(hundred):.0f} to {max(hundred):.0f}.",
        f"our Gaussian student is worth [{worth('cifar10_half_gaussian')['CIFAR-10']:.0f}]",
        f"sixteen are worth {of_row(stratified, 'predictive_entropy'):.0f} plain passes in the predictive entropy",
        f"and {of_row(stratified, 'total_variance'):.0f} in the total variance",
        f"{accuracy:.0%} of their gain in accuracy, {nll:.0%} in NLL, and {near:.0%} and {far:.0%} in detecting",
        f"Tiny-ImageNet, but {mnist:.0%} in detecting MNIST.",
    ):
        assert sentence in page


def commands() -> list[str]:
    """Every command of README and docs that reads settings."""
    shown = "\n".join(page.read_text() for page in DOCS)
    lines = re.findall(r"(?:^|`)((?:python|\./run\.sh|torchrun) [^#\n`]*)", shown, re.MULTILINE)
    return sorted({line.strip() for line in lines if not re.search(TESTED_ELSEWHERE, line)})


@pytest.mark.parametrize("command", commands())
def test_every_command_is_accepted(command, tmp_path, monkeypatch):
    """By the parser of its script: most take too long to be run."""
    monkeypatch.chdir(tmp_path)
    for folder in ("configs", "docs"):
        Path(folder).symlink_to(ROOT / folder)
    Path("birds.yaml").write_text("name: birds")
    words = shlex.split(command)
    script = next(word for word in words if word.endswith((".py", "run.sh")))
    options = words[words.index(script) + 1 :]
    config, _ = parse(["--config", *options] if script == "./run.sh" and options else options)
    assert (ROOT / script).exists()
    if script == "./run.sh":  # with --help it looks at its arguments only
        subprocess.run([ROOT / script, *options, "--help"], check=True, stdout=subprocess.DEVNULL)
    assert config.name in command or config.name in ("digits", "fidelity", "two_moons", "comparison")


def test_the_config_for_own_images_works_as_it_stands(tmp_path, no_plots, monkeypatch):
    """With as few images as a first try has; only the size of the network and its epochs are changed, for time."""
    monkeypatch.chdir(tmp_path)
    for dark, name in enumerate(("robin", "wren", "heron"), 1):
        images = random_images(36, 40, 50, 3) // dark
        save_images(Path(f"datasets/birds/train/{name}"), *images[:30])
        save_images(Path(f"datasets/birds/test/{name}"), *images[30:])
    shutil.copytree("datasets/birds/test/wren", "datasets/aeroplanes")
    small = ["--teacher.width", "0.125", "--student.width", "0.125", "--teacher.epochs", "2", "--student.epochs", "2"]
    small += ["--evaluation.passes", "4"]
    for page in ("README.md", "docs/use.md"):
        Path("birds.yaml").write_text(code_of(page, "yaml")[0])
        settings, _ = parse(["--config", "birds.yaml", *small])
    run_stages(settings)
    assert json.loads(Path("runs/birds/metrics.json").read_text())["student"]["accuracy"] >= 0
    assert Path("runs/birds/report.html").exists()


def test_the_yardstick_in_six_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    draws = np.stack([rng.dirichlet(alpha, 70) for alpha in rng.gamma(1.0, 2.0, (400, 3)) + 0.1])
    half_a, half_b, own = np.split(draws, [30, 60], 1)
    np.savez("mine.npz", student=own.var(1).sum(-1), groups=np.arange(400), half_a=half_a, half_b=half_b)
    (code,) = [code for code in code_of("docs/method.md") if "mine.npz" in code]
    exec(code)
    found = eval(capsys.readouterr().out)
    assert 6 < found["equivalent_passes"] < 15 and not found["censored"]  # it was made of ten passes


def test_the_lines_of_python_for_use(tiny, monkeypatch):
    """What `docs/use.md` does with a finished run: predictions, and a plot of one image's passes."""
    monkeypatch.chdir(Path(tiny.runs).parent)
    tiny.teacher.epochs = tiny.student.epochs = 1
    tiny.sampling.passes = 16
    run_stages(tiny, "teacher", "student")
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 32 * 32, 2))
    names = {"network": network, "mean": [0.5] * 3, "std": [0.2] * 3, "classes": ["cat", "dog"]}
    names |= {"photos": torch.tensor(random_images(3, 32, 32, 3)), "images": torch.tensor(random_images(2, 8, 8, 1))}
    for code in code_of("docs/use.md"):
        exec(code, names)
    assert names["distribution"].mean.shape == (2, 10) and names["samples"].shape[1:] == (16, 10)
    assert len(names["plt"].gca().lines) == 16 and Path("passes.png").stat().st_size > 1000


def test_the_student_that_is_shown_is_plain_distillation(trained, monkeypatch):
    names = {"Delta": Delta, "F": F, "Method": Method, "dataclass": dataclass}
    exec(*code_of("docs/extending.md"), names)
    monkeypatch.setitem(STUDENTS, "mean_only", names["MeanOnly"])
    trained.student.epochs, trained.teacher_of, losses = 1, trained.name, []
    for trained.name in ("mean_only", "end"):
        trained.student.method = trained.name
        train_student.main(trained, overwrite=False)
        losses.append(artifact.load(trained.folder / "student.safetensors", "student")[1]["history"][0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
