"""The experiment in one dimension, shortened."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import regression


def test_a_student_keeps_both_parts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = {"points": 256, "repeats": 2, "passes": 60, "hidden": 16, "student_hidden": 32}
    settings = regression.Settings(**small, rates=[0.05], epochs=150, student_epochs=60)
    regression.main(settings)
    record = json.loads(Path("results/regression/regression.json").read_text())
    for kind, parts in record["agreement"].items():
        assert parts["total_variance"]["pearson"] > 0.7 and 0.8 < parts["total_variance"]["scale"] < 1.25
        assert parts["expected_variance"]["scale"] == pytest.approx(1, abs=0.15)
        found = record["by_points"][kind]["256"]
        assert found["teacher"]["total_variance"]["beyond"] > found["teacher"]["total_variance"]["data"]
    assert np.sqrt(record["by_points"]["constant"]["256"]["teacher"]["expected_variance"]["data"]) == pytest.approx(
        0.224, rel=0.01
    )
    assert record["agreement"]["constant"]["expected_variance"]["pearson"] is None  # a constant
    assert record["agreement"]["learned"]["expected_variance"]["pearson"] > 0.8
    assert all(Path(f"results/regression/{name}").exists() for name in ("bands.png", "points.png", "README.md"))


def test_the_data_have_the_noise_that_is_said():
    torch.manual_seed(0)
    x, y = regression.draw(200_000, 1)
    for low, high in ((-1.5, -1.4), (0.4, 0.5), (1.4, 1.5)):
        chosen = (x > low) & (x < high)
        middle = (low + high) / 2
        assert (y - torch.sin(3 * x))[chosen].std().item() == pytest.approx(0.05 + 0.1 * (middle + 1.5), rel=0.05)
    assert regression.constant_noise() == pytest.approx((y - torch.sin(3 * x)).var().item(), rel=0.02)
    assert regression.place_of(np.array([0.1, 1.0, -2.0])).tolist() == ["gap", "data", "beyond"]
