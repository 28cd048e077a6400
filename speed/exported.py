"""Student and teacher as ONNX files, run by onnxruntime: the teacher's dropout masks are inputs of its file."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import export
from methods.student import Student, for_use
from models.folding import folded, portable
from models.hooks import hooked


def student_file(student: Student) -> Callable[[Tensor], object]:
    """Images → all outputs of the exported student."""
    exported = export.Exported(for_use(student)).eval()
    with tempfile.TemporaryDirectory() as folder:
        return export.write_onnx(export.traced(exported), exported, Path(folder) / "student.onnx")


class Masked(nn.Module):
    """Dropout whose mask is given."""

    mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask


class Passes(nn.Module):
    """(one image, a mask [T, ...] for each dropout layer) → log-probabilities [T, C]. image [1, H, W, C]: one as those
    that will come."""

    def __init__(self, network: nn.Module, image: Tensor, passes: int):
        super().__init__()
        self.network, self.passes = portable(folded(network)), passes
        self.shapes: list[tuple[float, tuple[int, ...]]] = []  # rate and shape of each mask
        shapes: dict[str, tuple[int, ...]] = {}
        layers = [(name, layer) for name, layer in self.network.named_children() if isinstance(layer, nn.Dropout)]
        with hooked(
            layer.register_forward_hook(lambda _, __, y, name=name: shapes.update({name: y.shape[1:]}))
            for name, layer in layers
        ):
            self.network(image)
        for name, layer in layers:
            self.shapes.append((layer.p, (passes, *shapes[name])))
            setattr(self.network, name, Masked())

    def forward(self, image: Tensor, *masks: Tensor) -> Tensor:
        layers = [layer for layer in self.network if isinstance(layer, Masked)]
        for layer, mask in zip(layers, masks):
            layer.mask = mask
        return self.network(image.expand(self.passes, -1, -1, -1)).log_softmax(-1)

    def masks(self, rng: np.random.Generator) -> list[np.ndarray]:
        """New masks: 1 / (1 − rate) where a unit is kept, else 0."""
        return [
            (rng.random(shape, np.float32) >= rate).astype(np.float32) / np.float32(1 - rate)
            for rate, shape in self.shapes
        ]


def teacher_file(network: nn.Module, image: Tensor, passes: int) -> Callable[[Tensor], Tensor]:
    """One image, such as `image` [1, H, W, C] → log-probabilities [1, T, C] of `passes` passes with new masks, by
    onnxruntime."""
    model, rng = Passes(network, image, passes), np.random.default_rng(0)
    masks = [torch.from_numpy(mask) for mask in model.masks(rng)]
    names = ["images", *(f"mask{i}" for i in range(len(masks)))]
    program = torch.onnx.export(model, (image, *masks), input_names=names, dynamo=True, verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        program.save(Path(folder) / "teacher.onnx", external_data=False)
        session = export.session_of(Path(folder) / "teacher.onnx")

    def run(images: Tensor) -> Tensor:
        given = dict(zip(names, [images.numpy(), *model.masks(rng)]))
        return torch.from_numpy(session.run(None, given)[0]).unsqueeze(0)

    return run
