"""The UCI experiment on generated rows in the published layout, and its batched networks against single ones."""

import json
from pathlib import Path

import numpy as np
import pytest

from configs.errors import UserError
from experiments import uci
from experiments.gaussian_regression import GaussianPrediction
from experiments.uci_sets import Rows


@pytest.fixture
def root(tmp_path) -> Path:
    """Three splits of rows of a line with noise of variance 1/4, in the place of the yacht set."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    files = {"data": np.column_stack([x, 10 + 3 * x[:, 0] + rng.normal(0, 0.5, 300)])}
    files |= {"index_features": [0, 1], "index_target": [2], "n_epochs": [40], "n_hidden": [20]}
    files |= {"dropout_rates": [0.01, 0.1], "tau_values": [1, 4]}
    for k in range(3):
        files[f"index_test_{k}"], files[f"index_train_{k}"] = np.split(rng.permutation(300), [30])
    (tmp_path / "yacht/data").mkdir(parents=True)
    for name, numbers in files.items():
        np.savetxt(tmp_path / f"yacht/data/{name}.txt", numbers, "%s")
    return tmp_path


def test_a_line_is_learned_and_its_noise_is_chosen(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = {"splits": 3, "multiplier": 4, "passes": 400, "half": 40, "steps": 600}
    settings = uci.Settings(root=str(root), sets=["yacht"], **small)
    uci.main(settings)
    record = json.loads(Path("results/uci/uci.json").read_text())["yacht"]
    assert record["taus"] == [4, 4, 4]  # the noise's precision
    assert np.mean(record["teacher"]["rmse"]) == pytest.approx(0.5, rel=0.35)
    assert np.mean(record["student"]["rmse"]) == pytest.approx(np.mean(record["passes"]["rmse"]), rel=0.1)
    assert record["agreement"]["pearson"] > 0.1 and 0.6 < record["agreement"]["scale"] < 1.6
    assert Path("results/uci/uci.png").exists()
    monkeypatch.setattr(uci, "measure", lambda *_: pytest.fail("a finished set was measured again"))
    uci.main(settings)


def test_scores_are_in_the_units_of_y():
    """Of y = 10 z with a Gaussian prediction of z: RMSE, likelihood and CRPS of the prediction of y itself."""
    z, mean, variance = np.random.default_rng(0).random((3, 2, 50))
    rows = Rows(*3 * (np.zeros((2, 0)),), test_y=z, scale=np.full((2, 1), 10.0))
    scores = uci.scores_of(GaussianPrediction(mean, variance, 0 * z), rows)
    scaled = GaussianPrediction(10 * mean, 100 * variance, 0 * z)
    assert scores["rmse"] == pytest.approx(10 * ((mean - z) ** 2).mean(1) ** 0.5)
    assert scores["log_likelihood"] == pytest.approx(scaled.log_likelihood(10 * z).mean(1))
    assert scores["crps"] == pytest.approx(scaled.crps(10 * z).mean(1))


def test_a_missing_folder_is_named():
    with pytest.raises(UserError, match="take UCI_Datasets"):
        uci.main(uci.Settings(root="nowhere", sets=["yacht"]))
