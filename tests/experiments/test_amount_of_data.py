"""Networks of parts of a training set, shortened, on digits in the place of CIFAR-10 and letters in the place of
CIFAR-100."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

import data
from configs.schema import DataSet
from experiments import amount_of_data


def test_parts_of_the_images_are_trained_on_for_as_many_steps(tmp_path, monkeypatch):
    settings = yaml.safe_load((ROOT / "configs/digits.yaml").read_text())
    settings["teacher"] |= {"epochs": 1, "width": 0.125, "batch_size": 128}
    settings |= {"student": {"epochs": 1, "batch_size": 128}, "sampling": {"passes": 2, "views": ["plain"]}}
    settings["data"]["size"] = 16
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    Path("small.yaml").write_text(yaml.safe_dump(settings))

    def load(source, split, wanted):
        instead = {"cifar10": "digits", "cifar100": "letters"}[source.source]
        return replace(data.SOURCES[instead](DataSet(instead), split, wanted), name=source.title)

    for name in ("cifar10", "cifar100"):
        monkeypatch.setitem(data.SOURCES, name, load)
    changes = {"PASSES": 4, "PARTS": {"half": 2, "whole": 1}, "STUDENTS": {"Gaussian student": "logit_gaussian"}}
    for name, value in (changes | {"COLOURS": {"teacher": "C0", "Gaussian student": "C1"}}).items():
        monkeypatch.setattr(amount_of_data, name, value)
    amount_of_data.main(amount_of_data.Settings(networks="small.yaml"))
    parts = json.loads(Path("results/amount_of_data/amount_of_data.json").read_text())["parts"]
    assert parts["half"]["images"] == -(-parts["whole"]["images"] // 2)
    for name, epochs in {"half": 2, "whole": 1}.items():
        config = yaml.safe_load(Path(f"runs/amount_of_data/{name}_logit_gaussian/config.yaml").read_text())
        assert config["teacher"]["epochs"] == epochs
        for means in [means for sets in parts[name]["means"].values() for means in sets.values()]:
            total = means["expected_entropy"] + means["mutual_information"]
            assert means["predictive_entropy"] == pytest.approx(total, abs=1e-4) and means["total_variance"] > 0
