"""The committed pages of the experiments are what their records give."""

import importlib
from pathlib import Path

import pytest

from configs.cli import parse
from configs.errors import UserError
from experiments import common, own_folders, regression, uci
from training import artifact

NAMES = ["active_learning", "amount_of_data", "concrete_dropout", "dirty_mnist", "own_folders", "regression", "uci"]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_what_its_record_gives(name):
    folder, experiment = Path("results") / name, importlib.import_module(f"experiments.{name}")
    record = artifact.read_json(folder / f"{name}.json")
    assert (folder / "README.md").read_text() == common.page(name, record, experiment.tables)


@pytest.mark.parametrize(
    "settings, option, allowed, refused",
    [
        (regression.Settings, "points", "4", "3"),
        (uci.Settings, "sets", "[yacht]", "[boat]"),
        (own_folders.Settings, "folders", "[cifar10-7]", "[cifar10]"),
    ],
)
def test_what_an_experiment_cannot_do_is_refused_at_the_start(settings, option, allowed, refused):
    parse([f"--{option}", allowed], settings, None)
    with pytest.raises(UserError, match=f"command line: {option}"):
        parse([f"--{option}", refused], settings, None)
