"""The experiment in one dimension, shortened, and the data that it is made of."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import noisy_sine, regression


def test_the_experiment_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(regression, "RATES", [0.05])
    regression.main(regression.Settings(points=64, repeats=2, passes=20, epochs=2))
    record = json.loads(Path("results/regression/regression.json").read_text())
    aleatoric = record["by_points"]["constant"]["64"]["teacher"]["expected_variance"]["data"]
    assert np.sqrt(aleatoric) == pytest.approx(0.224, rel=0.01)
    assert record["agreement"]["constant"]["expected_variance"]["pearson"] is None  # a constant
    assert Path("results/regression/bands.png").exists()


@pytest.mark.parametrize("kind", regression.KINDS)
def test_a_student_keeps_both_parts(kind):
    torch.manual_seed(0)
    settings = regression.Settings(points=256, repeats=2, passes=50, epochs=60)
    x, y = noisy_sine.make_data(256, 2)
    networks = regression.train_teachers(kind, x, y, torch.full((2,), 0.05), settings)
    student = regression.predict_in_one_pass(regression.distil(networks, settings))
    teacher = noisy_sine.predict_by_passes(networks, noisy_sine.GRID, 400)
    assert regression.mean_pearson(student.total_variance, teacher.total_variance) > 0.7
    for part in noisy_sine.PARTS:
        assert getattr(student, part).mean() == pytest.approx(getattr(teacher, part).mean(), rel=0.2)


def test_the_noise_of_the_data():
    torch.manual_seed(0)
    x, y = noisy_sine.make_data(200_000, 1)
    residuals = y - torch.sin(3 * x)
    assert (residuals / (0.05 + 0.1 * (x + 1.5))).std().item() == pytest.approx(1, rel=0.02)
    assert residuals.var().item() == pytest.approx(noisy_sine.NOISE, rel=0.02)
