"""Networks of parts of a training set, shortened, on digits in the place of CIFAR-10 and letters in the place of
CIFAR-100."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import data
from configs.schema import DataSet
from experiments import amount_of_data

ROOT = Path(__file__).parents[2]


def test_parts_of_the_images_are_trained_on_for_as_many_steps(tmp_path, monkeypatch):
    settings = yaml.safe_load((ROOT / "configs/digits.yaml").read_text())
    settings["teacher"] |= {"epochs": 2, "width": 0.125, "batch_size": 64}
    settings |= {"student": {"epochs": 1, "batch_size": 64}, "sampling": {"passes": 2, "views": ["plain"]}}
    settings["data"] |= {"size": 16}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/amount_of_data.py").symlink_to(ROOT / "experiments/amount_of_data.py")
    Path("small.yaml").write_text(yaml.safe_dump(settings))
    for name, instead in (("cifar10", "digits"), ("cifar100", "letters")):

        def load(source, split, wanted, instead=instead):
            return replace(data.SOURCES[instead](DataSet(instead), split, wanted), name=source.title)

        monkeypatch.setitem(data.SOURCES, name, load)
    amount_of_data.main(amount_of_data.Settings(settings="small.yaml", passes=4))
    parts = json.loads(Path("results/amount_of_data/amount_of_data.json").read_text())["parts"]
    quarter, half, whole = (parts[name]["images"] for name in ("quarter", "half", "whole"))
    assert quarter == -(-whole // 4) and half == -(-whole // 2)
    epochs = {
        name: yaml.safe_load(Path(f"runs/amount_of_data/{name}/config.yaml").read_text())["teacher"]["epochs"]
        for name in parts
    }
    assert epochs == {"quarter": 8, "half": 4, "whole": 2}
    for of in parts.values():
        assert of["means"].keys() == amount_of_data.COLOURS.keys()
        for sets in of["means"].values():
            for found in sets.values():
                total = found["expected_entropy"] + found["mutual_information"]
                assert found["predictive_entropy"] == pytest.approx(total, abs=1e-4) and found["total_variance"] > 0
    assert "![By amount](by_amount.png)" in Path("results/amount_of_data/README.md").read_text()
