"""The student: one deterministic pass from images to a distribution over class probabilities."""

import copy
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from configs import recipe
from configs.errors import UserError
from configs.schema import Config, StudentSettings, TeacherSettings
from data.dataset import Dataset
from methods import student_method
from methods.prediction import predictions
from methods.teacher import Teacher, standardize
from models.architecture import Architecture, HeadsLinear, require_images
from models.contract import Network
from models.external import External, load_state
from models.folding import folded
from models.networks import NETWORKS, build
from training import artifact
from training.compute import Compute
from training.external import is_external
from training.run import missing, require_same
from training.state import decay_groups
from uncertainty.distribution import Distribution, Values
from uncertainty.variance_propagation import propagate

FILE = "student.safetensors"
APART = 0.1  # of its random start, which each of several heads keeps
ANSWERED = 0.95  # share of the in-distribution test images


def settings(config: Config) -> dict:
    """All settings that determine the student's weights, besides the teacher and the data."""
    return {"seed": config.seed, "student": asdict(config.student), "sampling": asdict(config.sampling)}


class Student(nn.Module):
    """Images [N, H, W, C] in 0-255 → a distribution over class probabilities.

    A network like the teacher's gives the logits. If the method's head takes head parameters too, a perceptron gives
    them. Its inputs are the mean output of every block, the last hidden layer, the logits and their softmax. With the
    option `propagation` they include the dropout's variance, propagated through the network in one pass; such a student
    is better, but takes several times as long. The option `hidden` is the number of units of a hidden layer of the
    perceptron. module: the network itself, if it was given as a module and not by name. about: the metadata of a loaded
    student's file.
    """

    def __init__(
        self, architecture: Architecture, settings: StudentSettings, classes: list[str], module: nn.Module | None = None
    ):
        super().__init__()
        self.architecture = architecture
        self.settings = settings
        self.classes = classes
        self.method = student_method(settings.method, settings.options)
        a = architecture
        if module is not None:
            copied = copy.deepcopy(module).cpu().requires_grad_()  # of a frozen teacher, too, the student learns
            self.network = External(copied, a.shape, a.outputs, a.layers)
        elif self.method.own_last_layer:
            self.network = build(replace(a, heads=1))
            self.network[-1] = self.method.last_layer(self.network.classifier)
        else:
            self.network = build(a)
        for layer in self.network.modules():
            if isinstance(layer, nn.RNNBase):
                layer.dropout = 0.0
        self.about = {}
        self.fixed_norm = False
        self.perceptron = None
        if outputs := self.method.perceptron_outputs(architecture.outputs):
            blank = torch.zeros(1, *architecture.shape)
            _, features = self.eval().logits_and_features(blank)
            self.perceptron = perceptron(features.shape[1], self.method.hidden, outputs)

    def train(self, mode: bool = True) -> "Student":
        """Set the mode, but keep dropout off in training too, except in a method's own last layer. If `fixed_norm`,
        batch norm keeps the teacher's statistics: with those of a batch it would be another network."""
        super().train(mode)
        for layer in self.network.modules():
            if not isinstance(layer, nn.RNNBase) and (
                self.fixed_norm or not isinstance(layer, _NormBase)
            ):  # cuDNN cannot train an RNN in eval mode
                layer.training = False
        if self.method.own_last_layer:
            self.network.classifier.train(mode)
        return self

    def forward(self, images: Tensor) -> Distribution:
        """The distribution for each image."""
        return self.distribution(self.outputs(images))

    def outputs(self, images: Tensor) -> Tensor:
        """The logits (of all heads) and the head parameters in one tensor: float32 [N, heads · C + K].

        Raises ValueError as `require_images`.
        """
        require_images(images, self.architecture.shape, self.training)
        logits, features = self.logits_and_features(images)
        if self.perceptron is None:
            return logits.flatten(1)
        with torch.autocast(images.device.type, enabled=False):
            return torch.cat([logits, self.perceptron(features)], 1)

    def distribution(self, outputs: Tensor) -> Distribution:
        """The distribution that outputs [N, heads · C + K] describe."""
        classes, heads = self.architecture.outputs, self.architecture.heads
        logits, perceptron_outputs = outputs.tensor_split((classes * heads,), 1)
        return self.method.distribution(
            logits if heads == 1 else logits.unflatten(1, (-1, classes)), perceptron_outputs
        )

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The network's logits [N, C], and the inputs of the perceptron [N, F]."""
        features, hidden = self.network.features(images)
        with torch.autocast(images.device.type, enabled=False):
            logits = self.network.classifier(hidden.float())
        features += [part.flatten(1) for part in (hidden.float(), logits, logits.softmax(-1))]
        if self.method.propagation:
            features.append(self.propagated(images))
        return logits, torch.cat(features, 1)

    @torch.no_grad()
    def propagated(self, images: Tensor) -> Tensor:
        """The logits' Gaussian by `variance_propagation`: means, their softmax, log diagonal of the Cholesky factor,
        rows over diagonal."""
        gaussian = propagate(self.network, images)
        deviation = gaussian.factor.diagonal(dim1=-2, dim2=-1)
        rows, columns = torch.tril_indices(*gaussian.factor.shape[1:], -1, device=images.device)
        shape = gaussian.factor[:, rows, columns] / deviation[:, rows]
        return torch.cat([gaussian.loc, gaussian.loc.softmax(-1), deviation.log(), shape], 1)

    def predict(self, images: str | Path) -> Iterator[dict]:
        """The class, the probabilities and all uncertainties of each image below a folder (or of one file), as
        `methods.prediction.predictions`."""
        return predictions(self, self, images, self.threshold)

    @property
    def threshold(self) -> float | None:
        """The predictive entropy, in nats, that ANSWERED of the in-distribution test images do not exceed; None if the
        student has not been evaluated."""
        return self.about.get("thresholds", {}).get("predictive_entropy")

    def init_from(self, teacher: nn.Module) -> int:
        """Copy every tensor of `teacher` that has the same name and shape here, to every head if there are several. Of
        a wider layer the first channels are copied: a narrower student is cut out of its teacher. Returns how many
        tensors were copied."""
        student, given = self.network.state_dict(), teacher.state_dict()
        parts = {name: first_channels(value, student[name].shape) for name, value in given.items() if name in student}
        fitting = {name: part for name, part in parts.items() if part is not None}
        for name, part in fitting.items():
            if part.ndim > given[name].ndim:  # of several heads, which would stay the same where their losses are
                fitting[name] = part + APART * student[name]
        self.network.load_state_dict(student | fitting)
        complete = all(
            name in fitting and fitting[name].shape[-value.ndim :] == value.shape for name, value in given.items()
        )
        self.fixed_norm = self.settings.batch_norm == "teacher" and complete
        return len(fitting)

    def save(self, path: Path, metadata: dict, dtype: str = "float32") -> None:
        """Write the weights, as `dtype`, and everything that is needed to build the student again."""
        built = {"architecture": asdict(self.architecture), "student": asdict(self.settings), "classes": self.classes}
        artifact.save(path, "student", self.state_dict(), built | metadata, dtype)


def check(config: Config) -> None:
    """Raise UserError for options that the method does not have, or samples that it cannot use."""
    method = student_method(config.student.method, config.student.options)
    if method.needs_functions and config.sampling.masks != "function":
        raise UserError(
            f"student.method: {config.student.method} imitates functions of the teacher: set sampling.masks: function"
        )


def copies_external(settings: StudentSettings, teacher: Teacher) -> bool:
    """Whether a student's network is its teacher's, one from outside."""
    return isinstance(teacher.network, External) and settings.network == "teacher"


def new_student(
    settings: StudentSettings, teacher_settings: TeacherSettings, teacher: Teacher, train: Dataset
) -> tuple[Student, int]:
    """A new student, and how many tensors it has from the teacher: with `init: teacher`, all that fit.

    Raises UserError for options that the method does not have, and for settings that this teacher's network rules out.
    """
    method, from_teacher = student_method(settings.method, settings.options), settings.init == "teacher"
    changes = {"heads": method.heads, "layers": settings.layers, "spectral_norm": None}
    if not method.propagation:
        changes |= {"conv_dropout": 0.0, "head_dropout": 0.0}
    if settings.network != "teacher":
        changes |= {"network": settings.network, "options": None, "digest": None}
    if settings.width is not None:
        changes["width"] = settings.width
    architecture = replace(teacher.architecture, **changes)
    external = copies_external(settings, teacher)
    given = external and not is_external(architecture.network)  # as a module, not by name
    for refused, reason in (
        (external and method.heads > 1, "student.method: an external network has one head; set student.network"),
        (external and settings.width is not None, "student.width: an external network has one; set student.network"),
        (settings.layers and not external, "student.layers: only for an external network; others name their blocks"),
        (
            from_teacher and teacher.architecture.spectral_norm is not None,
            "student.init: a teacher with a spectral norm is another network than its student; set it to random",
        ),
        (
            given and not from_teacher,
            "student.init: a network that was given as a module has no random weights; leave it at teacher",
        ),
    ):
        if refused:
            raise UserError(reason)
    module = teacher.network.module if given else None
    model = Student(architecture, replace(settings), train.classes, module)
    standardize(model.network, teacher_settings, train)
    copied = model.init_from(teacher.network) if from_teacher else 0
    if method.propagation and not model.fixed_norm:
        raise UserError("student.options: propagation: only for a student of the teacher's own architecture and norms")
    return model, copied


def first_channels(tensor: Tensor, shape: torch.Size) -> Tensor | None:
    """The first channels of a layer's tensor, as many as `shape` has (which may begin with a number of heads). None if
    there are fewer."""
    wanted = shape[len(shape) - tensor.ndim :]
    if len(wanted) != tensor.ndim or any(a > b for a, b in zip(wanted, tensor.shape, strict=True)):
        return None
    return tensor[tuple(map(slice, wanted))].expand(shape)


def parameter_groups(student: Student, settings: StudentSettings) -> list[dict]:
    """Groups for the optimizer. The network is trained at lr. What the teacher does not have (perceptron, last layer or
    heads) is trained at head_lr, without weight decay."""
    heads = [layer for layer in student.network.modules() if isinstance(layer, HeadsLinear)]
    layers = [student.network.classifier, *heads] if student.perceptron is None else [student.perceptron]
    new = dict.fromkeys(p for layer in layers for p in layer.parameters())
    fast = {"params": list(new), "lr": settings.head_lr, "weight_decay": 0.0}
    return [*decay_groups([p for p in student.network.parameters() if p not in new], settings.weight_decay), fast]


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Standardized features → two hidden layers → parameters near 0 at the start."""
    layers = nn.Sequential(
        nn.BatchNorm1d(inputs, affine=False),
        nn.Linear(inputs, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, outputs),
    )
    nn.init.normal_(layers[-1].weight, std=0.01)
    nn.init.zeros_(layers[-1].bias)
    return layers


def load_student(
    run: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    module: nn.Module | None = None,
) -> Student:
    """The trained student of a run's folder, ready to be called on uint8 images [N, H, W, C].

        student = load_student("runs/digits")
        distribution = student(images)
        distribution.mean, distribution.mutual_information

    dtype: the type of the autocast that it will be called in. module: the network, trained or not, of a student whose
    teacher was given as a module. Raises UserError if the folder has no student, or one of an earlier version.
    """
    path = Path(run) / FILE
    if not path.exists():
        raise missing(path, "train a student first (train_student.py)")
    tensors, about = artifact.load(path, "student")
    if about.get("student", {}).keys() != asdict(StudentSettings()).keys():
        raise UserError(f"{path} was made by an earlier version; train the student anew (train_student.py --overwrite)")
    architecture = Architecture(**about["architecture"])
    if module is None and not (is_external(architecture.network) or architecture.network in NETWORKS):
        raise UserError(f"{path}: its network was given as a module; give one to load_student(run, module=...)")
    student = Student(architecture, StudentSettings(**about["student"]), about["classes"], module)
    load_state(student, tensors, f"{path}: the module is another network than this student's")
    student.about = about
    return for_use(student.to(device), dtype)


def load_distilled(config: Config, compute: Compute, teacher: Teacher) -> Student:
    """The student of a config, for calls in autocast. Raises UserError if another teacher or other settings made it."""
    module = teacher.network.module if copies_external(config.student, teacher) else None
    student = load_student(config.folder, compute.device, getattr(torch, compute.dtype), module)
    made = recipe.as_made(config.student, student.about["settings"]["student"])
    wanted = settings(replace(config, student=made)) | {"teacher": teacher.checksum}
    there = {key: student.about["settings"][key] for key in wanted}
    require_same(config.folder / FILE, there, wanted, config.folder)
    return student


def keep_thresholds(folder: Path, values: Values) -> None:
    """Add to the student's file, for each measure, what ANSWERED of the in-distribution test images `values` [N] do not
    exceed."""
    tensors, about = artifact.load(folder / FILE, "student")
    thresholds = {measure: float(np.sort(x)[round(ANSWERED * len(x)) - 1]) for measure, x in values.items()}
    artifact.save(folder / FILE, "student", tensors, about | {"thresholds": thresholds})


def for_use(student: Student, dtype: torch.dtype = torch.float32) -> Student:
    """The student in eval mode, without gradients, with its network folded, for autocast of `dtype`. Its last layer
    stays float32, as in training."""
    student.eval().requires_grad_(False)
    classifier = student.network.classifier
    student.network = folded(student.network, dtype)
    if isinstance(student.network, Network):
        student.network[-1] = classifier
    return student
