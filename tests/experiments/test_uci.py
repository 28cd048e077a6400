"""The UCI experiment on generated rows in the published layout, and its batched networks against single ones."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from configs.errors import UserError
from experiments import uci
from training import cli


@pytest.fixture
def root(tmp_path) -> Path:
    """Three splits of rows of a line with noise of variance 1/4, in the place of the yacht set."""
    place = tmp_path / "yacht/data"
    place.mkdir(parents=True)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    np.savetxt(place / "data.txt", np.column_stack([x, 10 + 3 * x[:, 0] + rng.normal(0, 0.5, 300)]))
    lines = {"features": "0\n1", "target": "2"}
    for k in range(3):
        order = rng.permutation(300)
        lines |= {f"train_{k}": "\n".join(map(str, order[30:])), f"test_{k}": "\n".join(map(str, order[:30]))}
    for name, text in lines.items():
        (place / f"index_{name}.txt").write_text(text)
    for name, text in {"n_epochs": "40", "n_hidden": "20", "dropout_rates": "0.01\n0.1", "tau_values": "1\n4"}.items():
        (place / f"{name}.txt").write_text(text)
    return tmp_path


def test_a_line_is_learned_and_its_noise_is_chosen(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = uci.Settings(
        root=str(root),
        sets=["yacht"],
        splits=3,
        multiplier=4,
        passes=400,
        views=3,
        student_passes=20,
        student_steps=600,
        half=40,
    )
    uci.main(settings)
    record = json.loads(Path("results/uci/uci.json").read_text())["yacht"]
    assert record["taus"] == [4, 4, 4]  # the noise's precision
    assert np.mean(record["teacher"]["rmse"]) == pytest.approx(0.5, rel=0.35)
    assert np.mean(record["student"]["rmse"]) == pytest.approx(np.mean(record["passes"]["rmse"]), rel=0.1)
    assert record["agreement"]["pearson"] > 0.3 and 0.6 < record["agreement"]["scale"] < 1.6
    assert "0.666 ± 0.050" in Path("results/uci/README.md").read_text() and Path("results/uci/uci.png").exists()
    monkeypatch.setattr(uci, "measure", None)
    uci.main(settings)
    assert "finished" in capsys.readouterr().out


def test_a_missing_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="take UCI_Datasets"):
        uci.main(uci.Settings(root="nowhere"))


def test_the_config_is_the_scripts(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["uci.py", "--config", "configs/uci.yaml", "--splits", "5"])
    settings = cli.read_settings(uci.Settings, "")
    assert set(settings.sets) == uci.PUBLISHED.keys() and settings.splits == 5 and settings.multiplier == 100
    monkeypatch.setattr(sys, "argv", ["uci.py", "--halves", "5"])
    with pytest.raises(UserError, match="halves"):
        cli.read_settings(uci.Settings, "")
