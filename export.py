"""Write a run's student as one ONNX file for other programs.

    python export.py --run runs/digits --out digits.onnx

The file takes uint8 images [N, H, W, C] in any number, and gives class probabilities and uncertainties; its metadata
says their units and the names of the classes. It is compared with the student in PyTorch, and written only if they
agree. ONNX needs requirements-export.txt.
"""

from configs.start import before_imports

if __name__ == "__main__":
    before_imports()

import argparse
import importlib.util
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from configs.errors import UserError
from configs.schema import Shape
from methods.student import Student, load_student
from models.folding import portable
from training import artifact, script
from uncertainty.dirichlet import Dirichlet
from uncertainty.distribution import UNITS
from uncertainty.gaussian import LogitGaussian

MEASURES = ("predictive_entropy", "expected_entropy", "mutual_information", "total_variance")
CHECKED = (1, 7, 300, 3000)  # numbers of images
TOLERANCE = 1e-5
PACKAGES = ("onnx", "onnxruntime", "onnxscript")

Outputs = Callable[[Tensor], tuple[Tensor, ...]]


class Exported(nn.Module):
    """A student whose outputs are tensors: probabilities [N, C], every measure [N], α [N, C] of a Dirichlet, and, if
    the student was evaluated, `answer` [N]: whether the predictive entropy is not above its threshold."""

    def __init__(self, student: Student):
        super().__init__()
        if student.method.propagation:
            raise UserError("student.options: propagation: such a student cannot be exported")
        student.network = portable(student.network)
        self.student = student
        self.names = ["probabilities", *MEASURES]
        distribution = student(torch.zeros(1, *self.shape, dtype=torch.uint8))
        _ = distribution.mean  # a Gaussian draws its numbers at the first call; after it they are constants
        if isinstance(distribution, Dirichlet):
            self.names.append("alpha")
        elif not isinstance(distribution, LogitGaussian):
            raise UserError(
                f"student.method: a student by {student.settings.method} cannot be exported, only a Dirichlet or a "
                "Gaussian"
            )
        if student.threshold is not None:
            self.names.append("answer")

    @property
    def shape(self) -> Shape:
        """[H, W, C] of an image."""
        return self.student.architecture.shape

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        distribution = self.student(images)
        other = {"probabilities": distribution.mean}
        if "answer" in self.names:
            other["answer"] = distribution.predictive_entropy <= self.student.threshold
        return tuple(other[name] if name in other else getattr(distribution, name) for name in self.names)

    def metadata(self) -> dict[str, str]:
        """What a program that uses the file has to know."""
        return {
            "input": f"images: uint8 [N, {', '.join(map(str, self.shape))}], rows first, in 0-255",
            "classes": json.dumps(self.student.classes),
            "units": json.dumps({name: UNITS[name] or "number" for name in MEASURES}),
            "resize": self.student.architecture.resize,
            "method": self.student.settings.method,
        } | ({"threshold": str(self.student.threshold)} if "answer" in self.names else {})


def main() -> None:
    """Export the student, and compare the file with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, help="folder of a run with a trained student")
    parser.add_argument("--out", required=True, type=Path, help="file to write: .onnx")
    options = parser.parse_args()
    if options.out.suffix != ".onnx":
        raise UserError(f"--out: {options.out} does not end in .onnx")
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise UserError(f"--out: .onnx needs {', '.join(missing)}: python -m pip install -r requirements-export.txt")
    warnings.simplefilter("ignore")  # torch.export warns of its own code
    exported = Exported(load_student(options.run)).eval()
    with artifact.replacing(options.out) as temporary, torch.inference_mode():
        difference = largest_difference(exported, write_onnx(exported, temporary))
        if not difference <= TOLERANCE:
            raise UserError(f"{options.out}: not written, as its outputs differ from the student's by {difference:.1e}")
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB; outputs: {', '.join(exported.names)}")
    counts = ", ".join(map(str, CHECKED))
    print(f"largest difference from the student in PyTorch, for {counts} images: {difference:.0e}")


def digamma(x: Tensor) -> Tensor:
    """ψ(x) for x > 0, for formats that lack it: ψ(x + 6) − Σ_k 1 / (x + k), and the asymptotic series of ψ(x + 6)."""
    shifted = x + 6
    square = 1 / (shifted * shifted)
    series = (
        torch.log(shifted) - 0.5 / shifted - square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240)))
    )
    return series - sum(1 / (x + k) for k in range(6))


def write_onnx(exported: Exported, path: Path) -> Outputs:
    """Write an .onnx file for any number of images. Returns what onnxruntime computes from it, with as many threads as
    torch has."""
    import onnxruntime

    images = torch.zeros(3, *exported.shape, dtype=torch.uint8)
    program = torch.export.export(exported, (images,), dynamic_shapes={"images": {0: Dim("N", min=1)}}, strict=False)
    program = program.run_decompositions({torch.ops.aten.digamma.default: digamma})
    onnx = torch.onnx.export(program, input_names=["images"], output_names=exported.names, verbose=False)
    onnx.model.metadata_props.update(exported.metadata())
    onnx.save(path, external_data=False)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path.read_bytes(), settings, providers=["CPUExecutionProvider"])
    return lambda images: tuple(torch.from_numpy(output) for output in session.run(None, {"images": images.numpy()}))


def largest_difference(exported: Exported, outputs: Outputs) -> float:
    """The largest difference of any output, for random images. α is compared by what it says: the mean and the measures
    of its Dirichlet."""

    def named(by: Outputs, images: Tensor) -> dict[str, Tensor]:
        """The outputs by name, with what α says in its place."""
        found = dict(zip(exported.names, by(images), strict=True))
        if "answer" in found:  # whether it is wrong by its own entropy
            found["answer"] ^= found["predictive_entropy"] <= exported.student.threshold
        if "alpha" in found:
            dirichlet = Dirichlet(found["alpha"])
            found |= {f"alpha's {name}": getattr(dirichlet, name) for name in ("mean", *MEASURES)}
        return {name: output.float() for name, output in found.items() if name != "alpha"}

    differences = []
    for count in CHECKED:
        images = torch.from_numpy(
            np.random.default_rng(count).integers(0, 256, (count, *exported.shape), dtype=np.uint8)
        )
        expected, found = named(exported, images), named(outputs, images)
        same = all(found[name].shape == output.shape for name, output in expected.items())
        differences += [(found[name] - expected[name]).abs().max().item() if same else np.inf for name in expected]
    return float(np.max(differences))  # a NaN stays one


if __name__ == "__main__":
    script.guard(main)
