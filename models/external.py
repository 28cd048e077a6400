"""External networks: a callable of the user's own file, `my_models.py:make`, or of torchvision,
`torchvision:mobilenet_v3_small`.

`External` makes any module from standardized floats [N, C, H, W] to logits meet the contract (`models.contract`).
"""

import re
import textwrap
from collections.abc import Callable
from operator import is_
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from configs.errors import UserError
from configs.schema import Shape
from models.architecture import Architecture, Normalize
from models.hooks import hooked, modes_kept
from training.external import call, called

UNKNOWN = "unknown"  # what an external network was trained on
WRAPPERS = ("_orig_mod.", "module.", "model.")  # prefixes of names that compiling or wrapping a network adds
SHOWN = 300  # characters of an error


class External(nn.Module):
    """A module as a network of this project.

    layers: the names of those whose mean outputs a student's perceptron takes; default: the last one of each output
    shape. The classifier is the linear layer that gives the logits, or an identity if there is none. Raises UserError,
    with the module's message, if it cannot take images [N, C, H, W] or does not give logits [N, outputs].
    shape: [H, W, C].
    """

    may_have_unused = True  # weights, for `training.process_group.parallel`

    def __init__(self, module: nn.Module, shape: Shape, outputs: int, layers: list[str] | None = None):
        super().__init__()
        if isinstance(module, torch.jit.ScriptModule):
            raise UserError("a module of torch.jit cannot be looked into: give the one that it was made of")
        self.normalize, self.module, self.channels_last = Normalize(shape[-1]), module, True
        self.normalize.to(next((tensor.device for tensor in module.state_dict().values()), "cpu"))
        self.shape = shape
        calls = self._try(outputs)
        self.layers = layers or last_of_each_shape(module, calls)
        if gone := [name for name in self.layers if name not in calls]:
            raise UserError(
                f"student.layers: {gone[0]} is not called in the network, or gives no tensor; there are: "
                f"{', '.join(calls)}"
            )
        linear = [name for name in calls if isinstance(module.get_submodule(name), nn.Linear)]
        self.last = next((name for name in linear if torch.equal(calls[name], calls[""])), None)

    @property
    def constants(self) -> str:
        """The numbers and texts that its modules hold besides weights, also in lists, mappings and objects, such as the
        rates of functional dropouts."""
        torchs = vars(nn.Module()).keys() - {"training"}
        own = {name: sorted(vars(part).items()) for name, part in self.module.named_modules()}
        return repr(
            {name: plain({k: v for k, v in of if k not in torchs}) | {"training": None} for name, of in own.items()}
        )

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
        return first_of(self.module(x if self.channels_last else x.clone(memory_format=torch.contiguous_format)))

    def features(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The mean output of each of `layers` (float32), and the input of the classifier."""
        seen = {}  # of each layer: its inputs, and its mean output before a layer changes it in place
        ends = [] if self.last is None else [self.last]
        hooks = [
            self.module.get_submodule(name).register_forward_hook(
                lambda _, inputs, output, name=name: seen.update({name: (inputs, mean_of(output))})
            )
            for name in {*self.layers, *ends}
        ]
        with hooked(hooks):
            logits = self(images)
        return [seen[name][1] for name in self.layers], seen[self.last][0][0] if ends else logits

    def some_images(self, count: int = 4) -> Tensor:
        """Random images [N, H, W, C] in 0-255, on the network's device."""
        images = torch.rand(count, *self.shape, generator=torch.Generator().manual_seed(0)) * 255
        return images.to(self.normalize.mean.device)

    @torch.no_grad()
    def _try(self, outputs: int) -> dict[str, Tensor]:
        """The output of each module on random images, by name. Sets `channels_last` to whether the module can take such
        memory."""
        images = self.some_images(2)
        kind = f"teacher.network: {type(self.module).__name__}"
        with modes_kept(self.module):
            self.module.eval()
            for self.channels_last in (True, False):  # `view` can fail on such memory
                try:
                    calls = outputs_by_name(self.module, lambda: self(images))
                    break
                except Exception as error:  # a user's code can raise any error
                    reason = str(error).partition("\n")[0]
            else:
                raise UserError(f"{kind} cannot take images {list(images.permute(0, 3, 1, 2).shape)}: {reason}")
        shape = list(calls[""].shape) if "" in calls else "no tensor"
        if shape != [2, outputs]:
            raise UserError(f"{kind} gives {shape} for 2 images of {outputs} classes, not logits [N, {outputs}]")
        return calls


def outputs_by_name(module: nn.Module, work: Callable[[], Any]) -> dict[str, Tensor]:
    """The output of each module that `work` calls exactly once and that gives a tensor, by name; `module`'s own name is
    empty."""
    calls = {}

    def note(name: str) -> Callable:
        return lambda _, __, output: calls.setdefault(name, []).append(first_of(output))

    with hooked(part.register_forward_hook(note(name)) for name, part in module.named_modules()):
        work()
    return {name: seen[0] for name, seen in calls.items() if len(seen) == 1 and isinstance(seen[0], Tensor)}


def last_of_each_shape(module: nn.Module, calls: dict[str, Tensor]) -> list[str]:
    """Names of the modules that end a stage: the last one of each output shape, among the module's children and the
    children of each `nn.Sequential` or `nn.ModuleList`. Outputs [N, F] count only if no other output has more
    dimensions."""

    def ends(name: str) -> bool:
        parent, _, child = name.rpartition(".")
        return bool(child) and (not parent or isinstance(module.get_submodule(parent), (nn.Sequential, nn.ModuleList)))

    inner = {name: x for name, x in calls.items() if ends(name) and x.ndim > 1 and len(x) == len(calls[""])}
    maps = {name: output for name, output in inner.items() if output.ndim > 2} or inner
    return list({output.shape: name for name, output in maps.items()}.values())


def plain(value: Any, within: tuple[int, ...] = ()) -> Any:
    """The numbers and texts in a value, in lists, mappings and objects too; None if there are none."""
    if isinstance(value, (int, float, str)):
        return value
    within, fields = (*within, id(value)), getattr(value, "__dict__", None)
    if isinstance(value, (list, tuple)):
        parts = [plain(part, within) for part in value if id(part) not in within]
        whole = len(parts) == len(value) and all(map(is_, parts, value))
        return value if whole else [part for part in parts if part is not None] or None
    if isinstance(value, dict):
        parts = {key: plain(part, within) for key, part in value.items() if id(part) not in within}
        return {key: part for key, part in parts.items() if part is not None} or None
    return None if fields is None or callable(value) or isinstance(value, Tensor) else plain(fields, within)


def first_of(output: Any) -> Any:
    """The first of several outputs, such as an LSTM's; the field or the key `logits`, if there is one."""
    if isinstance(output, (tuple, list)) and output and not hasattr(output, "logits"):
        return output[0]
    return output.get("logits") if isinstance(output, dict) else getattr(output, "logits", output)


def mean_of(output: Any) -> Tensor:
    """The mean over positions, float32: of maps [N, C, H, W] over pixels, of tokens [N, L, D] over tokens; vectors [N,
    D] stay."""
    x = first_of(output).float()
    return x if x.ndim == 2 else x.mean(1) if x.ndim == 3 else x.flatten(2).mean(2)


def make(a: Architecture) -> External:
    """Build the network that `a.network` names, with `a.options`. For a torchvision network `num_classes` is added."""
    place, _, name = a.network.rpartition(":")
    if place == "torchvision":
        if name not in torchvision.models.list_models():
            raise UserError(f"teacher.network: torchvision has no {name}")
        builder = torchvision.models.get_model_builder(name)
        module = called(builder, a.network, {"num_classes": a.outputs} | (a.options or {}))
    else:
        module = call(a.network, a.options or {})
    return External(module, a.shape, a.outputs, a.layers)


def load_weights(network: nn.Module, path: Path) -> None:
    """Read weights (safetensors, or .pt with tensors alone) into a module.

    Raises UserError if the file cannot be read, or if a name, a shape or a value does not fit.
    """
    try:
        given = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        for wrapper in ("state_dict", "model_state_dict", "model"):
            if isinstance(given.get(wrapper), dict):
                given = given[wrapper]
        for prefix in WRAPPERS:
            if all(name.startswith(prefix) for name in given) and not hasattr(network, prefix[:-1]):
                given = {name.removeprefix(prefix): value for name, value in given.items()}
        finite = all(value.isfinite().all() for value in given.values())
    except Exception as error:  # unpickling can raise any error
        reason = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).partition("\n")[0] or type(error).__name__
        raise UserError(f"teacher.weights: {path} cannot be read ({reason}); save a state_dict() there") from None
    if not finite:
        raise UserError(f"teacher.weights: {path} has numbers that are not finite")
    load_state(network, given, f"teacher.weights: {path} does not fit the network")


def load_state(module: nn.Module, tensors: dict[str, Tensor], refusal: str) -> None:
    """Load a module's tensors. Raises UserError of `refusal` and the reason, if they do not fit."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:  # torch names what is missing, unexpected, or of another shape, in many lines
        reason = textwrap.shorten(str(error).partition("\n")[2], SHOWN)
        raise UserError(f"{refusal}: {reason}") from None
