"""Exported students: outputs against SciPy and Monte Carlo, metadata, and the program of docs/export.md."""

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import scipy
import torch
from PIL import Image
from student_methods import vgg5_student
from test_scripts import call

from data.folder import decode
from export import MEASURES, TOLERANCE, Exported, largest_difference
from methods.student import load_student
from uncertainty.dirichlet import Dirichlet

IMAGES = torch.randint(0, 256, (50, 8, 8, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def a_run(folder: Path, method: str = "dirichlet", **options) -> Path:
    """A folder with an untrained student, whose perceptron's outputs differ from input to input."""
    torch.manual_seed(0)
    student = vgg5_student(method, **options).eval()
    student.network.normalize.fit([torch.arange(256, dtype=torch.uint8).view(4, 8, 8, 1)])
    if student.perceptron is not None:
        torch.nn.init.normal_(student.perceptron[-1].weight, std=0.3)
    student.save(folder / "student.safetensors", {"thresholds": {"predictive_entropy": 1.367}})
    return folder


def exported(folder: Path, name: str = "a.onnx", images: torch.Tensor = IMAGES) -> dict[str, np.ndarray]:
    """What the file gives for images."""
    assert call("export.py", "--run", str(folder), "--out", str(folder / name)) == 0
    session = onnxruntime.InferenceSession(folder / name)
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, {"images": images.numpy()})))


def test_a_dirichlets_outputs_follow_from_its_alpha(tmp_path):
    said = exported(a_run(tmp_path))
    alpha = said["alpha"].astype(float)
    p = alpha / alpha.sum(1, keepdims=True)
    expected = (p * (scipy.special.digamma(alpha.sum(1, keepdims=True) + 1) - scipy.special.digamma(alpha + 1))).sum(1)
    entropy = scipy.stats.entropy(p, axis=1)
    assert said["probabilities"] == pytest.approx(p, abs=1e-6) and np.ptp(said["expected_entropy"]) > 0.01
    assert said["predictive_entropy"] == pytest.approx(entropy, abs=1e-5)
    assert said["expected_entropy"] == pytest.approx(expected, abs=1e-5)
    assert said["mutual_information"] == pytest.approx(entropy - expected, abs=1e-5)
    assert said["total_variance"] == pytest.approx([scipy.stats.dirichlet.var(a).sum() for a in alpha], abs=1e-6)


def test_answers_are_below_the_students_threshold(tmp_path):
    said = exported(a_run(tmp_path))
    assert (said["answer"] == (said["predictive_entropy"] <= 1.367)).all() and 0 < said["answer"].mean() < 1


class Precise(Exported):
    """A student whose Dirichlets have the precision 4,000, with α wrong by a factor."""

    def forward(self, images, factor=1.0):
        p = super().forward(images)[0]
        said = {name: getattr(Dirichlet(4000 * p), name) for name in MEASURES}
        said |= {"probabilities": p, "alpha": 4000 * factor * p, "answer": said["predictive_entropy"] <= 1.367}
        return tuple(said[name] for name in self.names)


def test_alpha_is_compared_by_what_it_says(tmp_path):
    """At this precision a ten-thousandth of α changes no measure by 5e-6; twice the α halves the variance."""
    student = Precise(load_student(a_run(tmp_path))).eval()
    differences = [largest_difference(student, partial(student.forward, factor=factor)) for factor in (1.0001, 2.0)]
    assert differences[0] < 5e-6 < TOLERANCE < differences[1] < 4e-4


def test_a_gaussians_outputs_are_those_of_random_draws(tmp_path):
    said = exported(a_run(tmp_path, "logit_gaussian", rank=2))
    torch.manual_seed(1)
    p = load_student(tmp_path)(IMAGES).sample(20_000).double()
    mean, variance, expected = p.mean(1), p.var(1).sum(1), torch.special.entr(p).sum(-1).mean(1)
    information = torch.special.entr(mean).sum(-1) - expected
    for name, value in (("probabilities", mean), ("mutual_information", information), ("total_variance", variance)):
        assert said[name] == pytest.approx(value.numpy(), abs=0.02)
    assert "alpha" not in said and said["total_variance"].max() > 0.05


def test_the_metadata_and_the_program_of_the_docs_which_needs_neither_torch_nor_this_repository(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)).save(tmp_path / "photo.png")
    said = exported(
        a_run(tmp_path), "cifar10.onnx", torch.tensor(decode(tmp_path / "photo.png", (8, 8, 1))).unsqueeze(0)
    )
    about = onnxruntime.InferenceSession(tmp_path / "cifar10.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == list("abcd") and about["method"] == "dirichlet"
    assert json.loads(about["units"])["mutual_information"] == "nats"
    code = re.search(r"```python\n(.*?)```", Path("docs/export.md").read_text(), re.DOTALL)[1]
    alone = ["-I", "-c", f"import sys; sys.modules['torch'] = None\n{code}"]
    done = subprocess.run([sys.executable, *alone], cwd=tmp_path, capture_output=True, text=True)
    label, expected, information = done.stdout.split()
    assert label == "abcd"[said["probabilities"][0].argmax()]
    assert float(expected) == pytest.approx(said["expected_entropy"][0], abs=1e-5)
    assert float(information) == pytest.approx(said["mutual_information"][0], abs=1e-5)


@pytest.mark.parametrize(
    "name, method, options, said",
    [
        ("a.tflite", "dirichlet", {}, ".onnx"),
        ("a.onnx", "end", {}, "end cannot be exported"),
        ("a.onnx", "dirichlet", {"propagation": True}, "propagation: such a student cannot be exported"),
    ],
)
def test_what_cannot_be_exported_is_said(tmp_path, capsys, name, method, options, said):
    assert call("export.py", "--run", str(a_run(tmp_path, method, **options)), "--out", str(tmp_path / name)) == 2
    assert said in capsys.readouterr().err and not (tmp_path / name).exists()
