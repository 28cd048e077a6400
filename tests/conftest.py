"""What several tests need: a tiny experiment on the digits."""

from pathlib import Path

import pytest

from configs.cli import parse
from configs.schema import Config

TINY = [
    "--config", "configs/digits.yaml", "--teacher.width", "0.125", "--teacher.epochs", "3", "--student.width", "0.125",
    "--student.epochs", "3", "--sampling.passes", "4", "--sampling.views", "[augmented,mixup]", "--evaluation.passes", "6",
    "--evaluation.bootstrap", "50", "--evaluation.speed_images", "8",
]  # fmt: skip


@pytest.fixture
def tiny(tmp_path: Path) -> Config:
    """A config whose stages take seconds, with its runs in a temporary folder."""
    config, _ = parse([*TINY, "--runs", str(tmp_path / "runs")])
    return config


@pytest.fixture
def with_teacher(tiny: Config):
    """The same after train_teacher.py."""
    import train_teacher

    train_teacher.main(tiny, overwrite=False)
    return tiny
