"""Exported students: outputs against SciPy and Monte Carlo, any number of images, metadata, and the programs of
docs/export.md."""

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
from PIL import Image
from test_scripts import call

import export
from configs.schema import Student as Settings
from data.folder import decode
from methods.student import Student, load_student
from models.architecture import Architecture

CLASSES = ["cat", "dog", "eel", "fly"]


def a_run(folder: Path, **settings) -> Path:
    """A folder with an untrained student, whose perceptron's outputs differ from input to input."""
    torch.manual_seed(0)
    student = Student(Architecture("vgg5", 0.25, 8, 1, 4, 0.1, 0.5), Settings(**settings), CLASSES).eval()
    student.network.normalize.fit([torch.arange(256, dtype=torch.uint8).view(4, 8, 8, 1)])
    if student.perceptron is not None:
        torch.nn.init.normal_(student.perceptron[-1].weight, std=0.3)
    student.save(folder / "student.safetensors", {})
    return folder


def exported(folder: Path, name: str, images: torch.Tensor) -> dict[str, np.ndarray]:
    """What the file gives for images."""
    done = call("export.py", "--run", str(folder), "--out", str(folder / name))
    assert done.code == 0, done.err
    assert "largest difference from the student in PyTorch, for 1, 7, 300, 3000 images" in done.out
    session = onnxruntime.InferenceSession(folder / name)
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, {"images": images.numpy()})))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (50, 8, 8, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("head", ["points", "softplus", "last_layer"])
def test_a_dirichlets_outputs_follow_from_its_alpha(tmp_path, images, head):
    said = exported(a_run(tmp_path, method="dirichlet", options={"head": head}), "a.onnx", images)
    alpha = said["alpha"].astype(float)
    p = alpha / alpha.sum(1, keepdims=True)
    expected = (p * (scipy.special.digamma(alpha.sum(1, keepdims=True) + 1) - scipy.special.digamma(alpha + 1))).sum(1)
    entropy = scipy.stats.entropy(p, axis=1)
    assert said["probabilities"] == pytest.approx(p, abs=1e-6) and np.ptp(said["expected_entropy"]) > 0.01
    assert said["predictive_entropy"] == pytest.approx(entropy, abs=1e-5)
    assert said["expected_entropy"] == pytest.approx(expected, abs=1e-5)
    assert said["mutual_information"] == pytest.approx(entropy - expected, abs=1e-5)
    assert said["total_variance"] == pytest.approx([scipy.stats.dirichlet.var(a).sum() for a in alpha], abs=1e-6)


@pytest.mark.parametrize(
    "method, options", [("logit_gaussian", {}), ("logit_gaussian", {"rank": 2}), ("diagonal_gaussian", {})]
)
def test_a_gaussians_outputs_are_those_of_random_draws(tmp_path, images, method, options):
    said = exported(a_run(tmp_path, method=method, options=options), "a.onnx", images)
    torch.manual_seed(1)
    p = load_student(tmp_path)(images).sample(20_000).double()
    entropy, expected = (torch.special.entr(q).sum(-1) for q in (p.mean(1), p))
    assert "alpha" not in said and said["probabilities"] == pytest.approx(p.mean(1).numpy(), abs=0.02)
    assert said["mutual_information"] == pytest.approx((entropy - expected.mean(1)).numpy(), abs=0.02)
    assert (
        said["total_variance"] == pytest.approx(p.var(1).sum(1).numpy(), abs=0.02)
        and said["total_variance"].max() > 0.05
    )


def test_the_metadata_say_how_to_use_the_file(tmp_path, images):
    said = exported(a_run(tmp_path), "a.onnx", images)
    about = onnxruntime.InferenceSession(tmp_path / "a.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == CLASSES and about["method"] == "dirichlet"
    assert (
        about["input"].startswith("images: uint8 [N, 8, 8, 1]")
        and json.loads(about["units"])["mutual_information"] == "nats"
    )
    extra = {"metadata.json": ""}
    call("export.py", "--run", str(tmp_path), "--out", str(tmp_path / "a.pt2"))
    program = torch.export.load(tmp_path / "a.pt2", extra_files=extra)
    names = json.loads(json.loads(extra["metadata.json"])["outputs"])
    for name, output in zip(names, program.module()(images)):
        assert output.numpy() == pytest.approx(said[name], rel=1e-4, abs=1e-5)


def test_the_program_of_the_docs_needs_neither_torch_nor_this_repository(tmp_path, images):
    large = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    Image.fromarray(large).save(tmp_path / "photo.png")
    photo = torch.tensor(decode(tmp_path / "photo.png", *images.shape[2:])).unsqueeze(0)
    said = exported(a_run(tmp_path), "cifar10.onnx", photo)
    code = re.search(r"```python\n(.*?)```", Path("docs/export.md").read_text(), re.DOTALL)[1]
    alone = ["-I", "-c", f"import sys; sys.modules['torch'] = None\n{code}"]
    done = subprocess.run([sys.executable, *alone], cwd=tmp_path, capture_output=True, text=True)
    label, expected, information = done.stdout.split()
    assert label == CLASSES[said["probabilities"][0].argmax()]
    assert float(expected) == pytest.approx(said["expected_entropy"][0], abs=1e-5)
    assert float(information) == pytest.approx(said["mutual_information"][0], abs=1e-5)


def test_digamma_is_scipys():
    x = torch.logspace(-6, 6, 1000, dtype=torch.float64)
    assert export.digamma(x).numpy() == pytest.approx(scipy.special.digamma(x.numpy()), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name, settings, message", [
    ("a.tflite", {}, "ends neither in .onnx nor in .pt2"),
    ("a.onnx", {"method": "end"}, "a student by end cannot be exported, only a Dirichlet or a Gaussian"),
    ("a.onnx", {"options": {"propagation": True}}, "student.options: propagation: such a student cannot be exported"),
])  # fmt: skip
def test_what_cannot_be_exported_is_said(tmp_path, name, settings, message):
    done = call("export.py", "--run", str(a_run(tmp_path, **settings)), "--out", str(tmp_path / name))
    assert done.code == 2 and message in done.err and not (tmp_path / name).exists()
