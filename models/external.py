"""External networks: a callable of the user's own file, `my_models.py:make`, or of torchvision,
`torchvision:mobilenet_v3_small`.

`External` makes any module from standardized floats [N, C, H, W] to logits meet the contract (`models.contract`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from configs.errors import UserError
from models.architecture import Architecture, Normalize
from models.hooks import hooked
from training.external import call, called

UNKNOWN = "unknown"  # what an external network was trained on
SHOWN = 3  # names in an error


class External(nn.Module):
    """A module as a network of this project.

    layers: the names of those whose mean outputs a student's perceptron takes; default: the last one of each output
    shape. The classifier is the linear layer that gives the logits, or an identity if there is none. Raises UserError,
    with the module's message, if it cannot take images [N, channels, size, size] or does not give logits [N, outputs].
    """

    def __init__(self, module: nn.Module, size: int, channels: int, outputs: int, layers: list[str] | None = None):
        super().__init__()
        self.normalize = Normalize(channels)
        self.module = module
        self.channels_last = True
        blank = torch.rand(2, size, size, channels, generator=torch.Generator().manual_seed(0)) * 255
        calls = self._try(blank, outputs)
        self.layers = layers or last_of_each_shape(module, calls)
        for name in self.layers:
            if name not in calls:
                raise UserError(
                    f"student.layers: {name} is not called in the network, or gives no tensor; there are: "
                    f"{', '.join(calls)}"
                )
        logits = calls[""]
        ends = [
            name
            for name, output in calls.items()
            if isinstance(module.get_submodule(name), nn.Linear) and torch.equal(output, logits)
        ]
        self.last = ends[0] if ends else None

    @property
    def constants(self) -> str:
        """The numbers and texts that its modules hold besides weights, such as the rate of a functional dropout."""

        def held(part: nn.Module) -> dict[str, Any]:
            return {name: value for name, value in sorted(vars(part).items()) if isinstance(value, (int, float, str))}

        return repr({name: held(part) | {"training": None} for name, part in self.module.named_modules()})

    @property
    def classifier(self) -> nn.Module:
        """The layer from the last hidden one to the logits."""
        return nn.Identity() if self.last is None else self.module.get_submodule(self.last)

    def body(self, images: Tensor) -> Tensor:
        """The input of the classifier."""
        return self.features(images)[1]

    @property
    def in_a_row(self) -> nn.Module:
        """An `nn.Sequential` of all layers, if the module is a plain `nn.Sequential`; else this network."""
        plain = type(self.module) is nn.Sequential and self.channels_last
        return nn.Sequential(self.normalize, *self.module) if plain else self

    def forward(self, images: Tensor) -> Tensor:
        x = self.normalize(images)
        return self.module(x if self.channels_last else x.clone(memory_format=torch.contiguous_format))

    def features(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The mean output of each of `layers` (float32), and the input of the classifier."""
        means: dict[str, Tensor] = {}
        hidden: list[Tensor] = []
        hooks = [
            self.module.get_submodule(name).register_forward_hook(
                lambda _, __, output, name=name: means.update({name: mean_of(output)})
            )
            for name in self.layers
        ]
        if self.last is not None:
            hooks.append(self.classifier.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0])))
        with hooked(hooks):
            logits = self(images)
        return [means[name] for name in self.layers], hidden[-1] if hidden else logits

    @torch.no_grad()
    def _try(self, images: Tensor, outputs: int) -> dict[str, Tensor]:
        """The output of each module on `images`, by name. Sets `channels_last` to whether the module can take such
        memory."""
        kind, training = type(self.module).__name__, self.module.training
        self.module.eval()
        try:
            calls = outputs_by_name(self.module, lambda: self(images))
        except RuntimeError:
            self.channels_last = False  # `view` can fail on such memory
            try:
                calls = outputs_by_name(self.module, lambda: self(images))
            except Exception as error:  # a user's code can raise any error
                shape = list(images.permute(0, 3, 1, 2).shape)
                raise UserError(
                    f"teacher.network: {kind} cannot take images {shape}: {str(error).splitlines()[0]}"
                ) from None
        finally:
            self.module.train(training)
        logits = calls.get("")
        if logits is None or logits.shape != (len(images), outputs):
            found = "no tensor" if logits is None else list(logits.shape)
            raise UserError(
                f"teacher.network: {kind} gives {found} for {len(images)} images of {outputs} classes, not logits "
                f"[N, {outputs}]"
            )
        return calls


def outputs_by_name(module: nn.Module, work: Callable[[], Any]) -> dict[str, Tensor]:
    """The output of each module that `work` calls exactly once and that gives a tensor, by name; `module`'s own name is
    empty."""
    calls: dict[str, list[Tensor]] = {}

    def note(name: str) -> Callable:
        return lambda _, __, output: calls.setdefault(name, []).append(first_of(output))

    with hooked(part.register_forward_hook(note(name)) for name, part in module.named_modules()):
        work()
    return {name: found[0].clone() for name, found in calls.items() if len(found) == 1 and isinstance(found[0], Tensor)}


def last_of_each_shape(module: nn.Module, calls: dict[str, Tensor]) -> list[str]:
    """Names of the modules that end a stage: the last one of each output shape, among the module's children and the
    children of each `nn.Sequential` or `nn.ModuleList`. Outputs [N, F] count only if no other output has more
    dimensions."""
    batch = len(calls[""])

    def counts(name: str) -> bool:
        parent, _, _ = name.rpartition(".")
        return bool(name) and (not parent or isinstance(module.get_submodule(parent), (nn.Sequential, nn.ModuleList)))

    inner = {
        name: output for name, output in calls.items() if counts(name) and output.ndim > 1 and len(output) == batch
    }
    maps = {name: output for name, output in inner.items() if output.ndim > 2} or inner
    return list({tuple(output.shape): name for name, output in maps.items()}.values())


def first_of(output: Any) -> Any:
    """The first of several outputs, such as an LSTM's."""
    return output[0] if isinstance(output, (tuple, list)) and output else output


def mean_of(output: Any) -> Tensor:
    """The mean over positions, float32: of maps [N, C, H, W] over pixels, of tokens [N, L, D] over tokens; vectors [N,
    D] stay."""
    x = first_of(output).float()
    return x if x.ndim == 2 else x.mean(1) if x.ndim == 3 else x.flatten(2).mean(2)


def make(a: Architecture) -> External:
    """Build the network that `a.network` names, with `a.options`. For a torchvision network `num_classes` is added."""
    place, _, name = a.network.rpartition(":")
    options = a.options or {}
    if place == "torchvision":
        try:
            builder = torchvision.models.get_model_builder(name)
        except ValueError:
            raise UserError(f"teacher.network: torchvision has no {name}") from None
        return External(
            called(builder, a.network, {"num_classes": a.outputs} | options), a.size, a.channels, a.outputs, a.layers
        )
    return External(call(a.network, options), a.size, a.channels, a.outputs, a.layers)


def load_weights(network: nn.Module, path: Path) -> None:
    """Read weights (safetensors, or .pt with tensors alone) into a module.

    Raises UserError if the file cannot be read, or if a name, a shape or a value does not fit.
    """
    try:
        found = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # unpickling can raise any error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"teacher.weights: {path} cannot be read ({reason}); save a state_dict() there") from None
    for wrapper in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    wanted = network.state_dict()
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"teacher.weights: {path} holds no state_dict()")
    wrong = {
        "are missing": sorted(wanted.keys() - found.keys()),
        "are not the network's": sorted(found.keys() - wanted.keys()),
        "have another shape": [
            name for name in wanted.keys() & found.keys() if wanted[name].shape != found[name].shape
        ],
        "are not finite": [name for name, value in found.items() if not value.isfinite().all()],
    }
    if any(wrong.values()):
        parts = [
            f"{len(names)} {what} ({', '.join(names[:SHOWN])}{', ...' * (len(names) > SHOWN)})"
            for what, names in wrong.items()
            if names
        ]
        raise UserError(f"teacher.weights: {path} does not fit the network: {'; '.join(parts)}")
    network.load_state_dict(found)
