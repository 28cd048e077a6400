"""What several tests need: a tiny experiment on the digits, and the order of the files."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from training.cli import parse

import evaluate
from configs.schema import Config

# A worker takes whole files. The longest come first, or one of them would begin when the other worker is nearly done.
LONGEST = [
    "test_compare",
    "test_training",
    "test_process_group",
    "test_scripts",
    "test_mc_dropout",
    "test_faults",
    "test_docs",
]

TINY = [
    "--config", "configs/digits.yaml", "--teacher.lr", "0.005", "--teacher.epochs", "5", "--student.epochs", "3",
    "--sampling.passes", "4", "--sampling.views", "[augmented,mixup]", "--evaluation.passes", "6",
    "--evaluation.bootstrap", "50", "--evaluation.speed_images", "8",
]  # fmt: skip


# The configs of the pipeline; those of experiments/ have settings of their own.
CONFIGS = [
    path for path in sorted(Path("configs").glob("**/*.yaml")) if not Path(f"experiments/{path.stem}.py").exists()
]


@pytest.fixture
def tiny(tmp_path: Path) -> Config:
    """A config whose stages take seconds, with its runs in a temporary folder."""
    config, _ = parse([*TINY, "--runs", str(tmp_path / "runs")])
    return config


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations without figures, which take most of the time of a tiny one."""
    leave_out_plots(monkeypatch)


def leave_out_plots(patch: pytest.MonkeyPatch) -> None:
    """As `no_plots`, for fixtures of whole modules."""
    patch.setattr(evaluate, "draw", lambda *_: {})
    patch.setattr(evaluate, "save", lambda *_: None)


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """A disk on which no file can grow beyond `size` bytes. What pytest captures is a file as well, but for tests with
    `capsys`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files of LONGEST first."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
