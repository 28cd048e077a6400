"""What several tests need: a tiny experiment on the digits."""

from pathlib import Path

import pytest

from configs.schema import Config
from training.cli import parse

TINY = [
    "--config", "configs/digits.yaml", "--teacher.lr", "0.005", "--teacher.epochs", "5", "--student.epochs", "3",
    "--sampling.passes", "4", "--sampling.views", "[augmented,mixup]", "--evaluation.passes", "6",
    "--evaluation.bootstrap", "50", "--evaluation.speed_images", "8",
]  # fmt: skip


@pytest.fixture
def tiny(tmp_path: Path) -> Config:
    """A config whose stages take seconds, with its runs in a temporary folder."""
    config, _ = parse([*TINY, "--runs", str(tmp_path / "runs")])
    return config
