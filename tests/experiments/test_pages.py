"""The committed pages of the experiments are what their records give."""

import importlib
from pathlib import Path

import pytest

from experiments import common
from training import artifact

NAMES = ["active_learning", "amount_of_data", "concrete_dropout", "dirty_mnist", "own_folders", "regression", "uci"]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_what_its_record_gives(name):
    folder, experiment = Path("results") / name, importlib.import_module(f"experiments.{name}")
    record = artifact.read_json(folder / f"{name}.json")
    assert (folder / "README.md").read_text() == common.page(name, record, experiment.tables)
