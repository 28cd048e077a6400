"""What several tests need: a tiny experiment on the digits, finished or not, and ways to disturb it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_post_hook

import evaluate
import train_student
import train_teacher
from configs.cli import parse
from configs.schema import Config
from training import artifact
from uncertainty import equivalent_passes

ROOT = Path(__file__).parent.parent
STAGES = {"teacher": train_teacher, "student": train_student, "evaluate": evaluate}
TINY = [
    "--config", str(ROOT / "configs/digits.yaml"), "--teacher.lr", "0.005", "--teacher.epochs", "5",
    "--student.epochs", "3", "--sampling.passes", "4", "--sampling.views", "[augmented,mixup]",
    "--evaluation.passes", "6", "--evaluation.bootstrap", "50", "--data.max_ood", "100",
]  # fmt: skip

# The configs of the pipeline; those of experiments/ have settings of their own.
CONFIGS = [
    path for path in sorted(Path("configs").glob("**/*.yaml")) if not Path(f"experiments/{path.stem}.py").exists()
]


@pytest.fixture
def tiny(tmp_path: Path) -> Config:
    """A config whose stages take seconds, with its runs in a temporary folder."""
    return parse([*TINY, "--runs", str(tmp_path / "runs")])[0]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run whose teacher and student are trained. Not to be changed."""
    config, _ = parse([*TINY, "--runs", str(tmp_path_factory.mktemp("finished"))])
    run_stages(config, "teacher", "student")
    return config.folder


@pytest.fixture
def trained(tiny: Config, finished: Path) -> Config:
    """The tiny experiment in a copy of that run."""
    shutil.copytree(finished, tiny.folder)
    return tiny


def run_stages(config: Config, *stages: str) -> None:
    """These stages of a run, or all."""
    for stage in stages or STAGES:
        STAGES[stage].main(config, overwrite=False)


def save_images(folder: Path, *images: np.ndarray) -> Path:
    """The images as 0.png, 1.png and so on in a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def weights_of(config: Config, stage: str = "teacher") -> dict[str, torch.Tensor]:
    return artifact.load(config.folder / f"{stage}.safetensors", stage)[0]


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations without figures, which take most of the time of a tiny one."""
    leave_out_plots(monkeypatch)


def leave_out_plots(patch: pytest.MonkeyPatch) -> None:
    """As `no_plots`, for fixtures of whole modules. A curve's points are of one draw."""
    patch.setattr(evaluate, "figures_of", lambda *_: {})
    patch.setattr(evaluate, "save", lambda *_: None)
    patch.setattr(equivalent_passes, "DRAWS", 1)


@contextmanager
def after_each_step(act: Callable[[int, torch.optim.Optimizer], None]) -> Iterator[None]:
    """Call `act` with the number of the step, from 1 on, after each step of any optimizer."""
    numbers = count(1)
    handle = register_optimizer_step_post_hook(lambda optimizer, *_: act(next(numbers), optimizer))
    try:
        yield
    finally:
        handle.remove()
