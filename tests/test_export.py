"""Exported students: outputs against SciPy and Monte Carlo, metadata, and the program of docs/export.md."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import scipy
import torch
from conftest import random_images, save_images
from student_methods import vgg5_student
from test_scripts import call

from data.folder import decode
from methods.student import load_student

IMAGES = torch.randint(0, 256, (50, 8, 8, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


THRESHOLD = 1.367


def a_run(folder: Path, method: str = "dirichlet", **options) -> Path:
    """A folder with an untrained student, whose perceptron's outputs differ from input to input."""
    torch.manual_seed(0)
    student = vgg5_student(method, **options).eval()
    student.network.normalize.fit([torch.arange(256, dtype=torch.uint8).view(4, 8, 8, 1)])
    if student.perceptron is not None:
        torch.nn.init.normal_(student.perceptron[-1].weight, std=0.3)
    student.save(folder / "student.safetensors", {"thresholds": {"predictive_entropy": THRESHOLD}})
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
    assert (said["answer"] == (entropy <= THRESHOLD)).all() and 0 < said["answer"].mean() < 1
    assert said["predictive_entropy"] == pytest.approx(entropy, abs=1e-5)
    assert said["expected_entropy"] == pytest.approx(expected, abs=1e-5)
    assert said["mutual_information"] == pytest.approx(entropy - expected, abs=1e-5)
    assert said["total_variance"] == pytest.approx([scipy.stats.dirichlet.var(a).sum() for a in alpha], abs=1e-6)


def test_a_gaussians_outputs_are_those_of_random_draws(tmp_path):
    said = exported(a_run(tmp_path, "logit_gaussian", rank=2))
    torch.manual_seed(1)
    p = load_student(tmp_path)(IMAGES).sample(20_000).double()
    information = torch.special.entr(p.mean(1)).sum(-1) - torch.special.entr(p).sum(-1).mean(1)
    expected = {"probabilities": p.mean(1), "mutual_information": information, "total_variance": p.var(1).sum(1)}
    for name, value in expected.items():
        assert said[name] == pytest.approx(value.numpy(), abs=0.02)
    assert "alpha" not in said and said["total_variance"].max() > 0.05


def test_the_metadata_and_the_program_of_the_docs_which_needs_neither_torch_nor_this_repository(tmp_path):
    photo = save_images(tmp_path, *random_images(1, 40, 50)).joinpath("0.png").rename(tmp_path / "photo.png")
    said = exported(a_run(tmp_path), "cifar10.onnx", torch.tensor(decode(photo, (8, 8, 1))).unsqueeze(0))
    about = onnxruntime.InferenceSession(tmp_path / "cifar10.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == list("abcd") and about["method"] == "dirichlet"
    assert json.loads(about["units"])["mutual_information"] == "nats"
    code = re.search(r"```python\n(.*?)```", Path("docs/export.md").read_text(), re.DOTALL)[1]
    alone = ["-I", "-c", f"import sys; sys.modules['torch'] = None\n{code}"]
    done = subprocess.run([sys.executable, *alone], cwd=tmp_path, capture_output=True, text=True)
    label, *numbers = done.stdout.split()
    assert label == "abcd"[said["probabilities"][0].argmax()]
    expected = [said[name][0] for name in ("expected_entropy", "mutual_information")]
    assert [float(number) for number in numbers] == pytest.approx(expected, abs=1e-5)


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
