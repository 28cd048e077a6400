"""The experiment in one dimension, shortened, and the data that it is made of."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import noisy_sine, regression


def test_a_student_keeps_both_parts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(regression, "RATES", [0.05])
    monkeypatch.setattr(regression, "STUDENT_POINTS", 256)
    regression.main(regression.Settings(points=256, repeats=2, passes=50, epochs=60))
    record = json.loads(Path("results/regression/regression.json").read_text())
    for kind, parts in record["agreement"].items():
        assert parts["total_variance"]["pearson"] > 0.7 and 0.8 < parts["total_variance"]["scale"] < 1.25
        assert parts["expected_variance"]["scale"] == pytest.approx(1, abs=0.15)
        epistemic = record["by_points"][kind]["256"]["teacher"]["total_variance"]
        assert epistemic["beyond"] > epistemic["data"]
    aleatoric = record["by_points"]["constant"]["256"]["teacher"]["expected_variance"]["data"]
    assert np.sqrt(aleatoric) == pytest.approx(0.224, rel=0.01)
    assert record["agreement"]["constant"]["expected_variance"]["pearson"] is None  # a constant
    assert Path("results/regression/bands.png").exists()


def test_the_noise_of_the_data():
    torch.manual_seed(0)
    x, y = noisy_sine.make_data(200_000, 1)
    for low, high in ((-1.5, -1.4), (0.4, 0.5), (1.4, 1.5)):
        residuals = (y - torch.sin(3 * x))[(x > low) & (x < high)]
        assert residuals.std().item() == pytest.approx(0.05 + 0.1 * ((low + high) / 2 + 1.5), rel=0.05)
    assert (y - torch.sin(3 * x)).var().item() == pytest.approx(noisy_sine.NOISE, rel=0.02)
