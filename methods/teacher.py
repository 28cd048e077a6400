"""The teacher of a run: the network, or networks, that its samples come from."""

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from configs import recipe
from configs.errors import UserError
from configs.schema import Config, Data, Resize, TeacherSettings
from data.dataset import PART, Dataset, class_names
from methods import teacher_method
from methods.interface import Samplers
from methods.prediction import BATCH, predictions
from models import spectral_norm
from models.architecture import Architecture, require_images
from models.external import UNKNOWN, External
from models.networks import build
from training import artifact
from training.compute import Compute
from training.external import digest_of_code, is_external
from training.run import missing, require_same
from uncertainty.any_network import PlainLoop, cost_in_passes, sampler_of, what_is_random
from uncertainty.mc_dropout import Plan, Sampler, samples_of
from uncertainty.samples import Samples
from uncertainty.self_check import PASSES, SelfCheck, require_fit

FILE = "teacher.safetensors"
ENOUGH_TO_WHITEN = 2_000
ENOUGH = 10_000  # images that give mean and standard deviation, if images are decoded on demand


@dataclass(frozen=True)
class Teacher:
    """Trained networks of one architecture, in eval mode. data: the fingerprint of their training images, or `unknown`.
    checksum: of all that determines their outputs. history: the epochs of the first network. seconds: the training time
    of all networks together."""

    networks: list[nn.Module]
    architecture: Architecture
    classes: list[str]
    data: str
    checksum: str
    history: list[dict[str, float]]
    seconds: float

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        mean: list[float],
        std: list[float],
        size: int | list[int],
        classes: list[str],
        channels: int = 3,
        resize: Resize = "squash",
    ) -> "Teacher":
        """A teacher from a trained module of other code, from floats [N, channels, height, width] to logits.

        mean, std: of each channel, for pixels in [0, 1], as in the module's training. The module is copied.
        Raises UserError if the module does not take such images or does not give such logits, and as `require_fit`.
        """
        classes = class_names(classes)
        a = Architecture(type(module).__name__, 1.0, size, channels, len(classes), resize=resize)
        # called once before it is copied: a weight that a hook computes with a gradient cannot be copied
        network = copy.deepcopy(External(module, a.shape, len(classes))).eval()
        network.normalize.set(mean, std)
        require_fit(network, network.some_images())
        return cls([network], a, classes, UNKNOWN, checksum_of(network.state_dict(), network, a), [], 0.0)

    @property
    def network(self) -> nn.Module:
        """The first network, from which a student starts."""
        return self.networks[0]

    def require_same_data(self, train: Dataset, other_images: bool = False) -> None:
        """Raise UserError if the classes differ from the teacher's, or if the images do and `other_images` does not
        allow it."""
        if train.classes != self.classes:
            raise UserError(f"{train.name}: its classes are not those that the teacher was trained on")
        if train.fingerprint != self.data != UNKNOWN and not other_images:
            raise UserError(
                f"{train.name}: the training images are not those that the teacher was trained on "
                f"({train.fingerprint}, {self.data}); "
                "train the teacher anew (--overwrite), or set student.other_images: true to distil on these"
            )

    def check(self, images: Tensor, autocast: Callable[[], AbstractContextManager] = nullcontext) -> SelfCheck:
        """What is random in the network and where, how it is sampled, and at what cost, in `autocast` as it will be
        sampled; images uint8 [N, H, W, C].

        Raises UserError as `require_fit`, and if nothing is random.
        """
        images = images.to(self.network.normalize.mean.device)
        require_fit(self.network, images)
        sampler = sampler_of(self.network)
        with autocast():
            cost = cost_in_passes(sampler, self.network, images, PASSES)
        outside = isinstance(sampler, PlainLoop) and isinstance(self.network, External)
        why = f" ({sampler.why})" if outside else ""
        return SelfCheck(what_is_random(self.network, images), f"{sampler}{why}", cost)

    def __call__(self, images: Tensor, passes: int = 16) -> Samples:
        """Stratified passes with dropout on images uint8 [N, H, W, C], as few as they can be: 16 are worth about
        sixty plain ones, and thirty for the total variance (results/stratified_samples/).

        Raises ValueError for images of another shape or type than those it was made for, or without any pass.
        """
        sampler = self._sampler()
        require_images(images, self.architecture.shape)
        if not len(images) or passes < 1:
            raise ValueError(f"{passes} passes of {len(images)} images: give one or more")
        images = images.to(self.network.normalize.mean.device)
        return samples_of(sampler, images, Plan(passes, "grouped", BATCH, (0, "call"), 1))

    def predict(self, images: str | Path, passes: int) -> Iterator[dict]:
        """The same as `methods.student.Student.predict`, but from `passes` stratified passes with dropout."""
        sampler, plan = self._sampler(), Plan(passes, "grouped", BATCH, (0, "predict", str(images)), 1)
        return predictions(self, lambda batch: samples_of(sampler, batch, plan), images)

    def _sampler(self) -> Sampler | PlainLoop:
        """The sampler of one network with dropout. Raises UserError if there are several."""
        if len(self.networks) > 1:
            raise UserError("this teacher is an ensemble, not passes with dropout; use its student")
        return sampler_of(self.network)

    def samplers(self, method: str) -> Samplers:
        """Two samplers of the networks: one for students and the reference's first half, one for its second half.

        Raises UserError if the method gives no samples.
        """
        samplers = teacher_method(method).samplers
        if samplers is None:
            raise UserError(f"teacher.method: {method} gives no samples, but a student needs them")
        return samplers(self.networks)


def settings(config: Config) -> dict:
    """All settings that determine a network's weights."""
    values = asdict(config.teacher)
    for name in ("method", "members"):  # these say how the network is used
        values.pop(name)
    images = {"size": config.data.size, "channels": config.data.channels, "resize": config.data.resize}
    split = {"validation": config.data.validation, "split_seed": config.split_seed}
    return {
        "seed": config.seed,
        "teacher": values,
        "augmentation": asdict(config.data.augmentation),
        "images": images,
        "split": split,
    }


def architecture(settings: TeacherSettings, images: Data, classes: int) -> Architecture:
    """The architecture of the network that the settings describe.

    Raises UserError for settings that do not go together.
    """
    base = Architecture(settings.network, settings.width, images.size, images.channels, classes, resize=images.resize)
    external = is_external(settings.network)
    ours = ("width", "conv_dropout", "head_dropout", "spectral_norm", "dropped", "whiten", "identity_start")
    ignored = ours if external else ("options", "weights")
    for name in ignored:
        if getattr(settings, name) != getattr(TeacherSettings(width=1.0), name):
            raise UserError(
                f"teacher.{name}: would be ignored, as {settings.network} is {'' if external else 'not '}an "
                "external network"
            )
    if (settings.mean is None) != (settings.std is None):
        raise UserError("teacher.mean, teacher.std: give both or none")
    if settings.weights and settings.mean is None:
        raise UserError(
            "teacher.weights: set teacher.mean and teacher.std to what the network was trained with (0 and 1: "
            "pixels in [0, 1])"
        )
    if settings.weights and settings.members > 1:
        raise UserError("teacher.weights: those of one network, and teacher.members asks for more")
    if external:
        return replace(base, options=settings.options, digest=digest_of_code(settings.network))
    dropout = {
        "conv_dropout": settings.conv_dropout,
        "head_dropout": settings.head_dropout,
        "dropped": settings.dropped,
    }
    if settings.whiten and not settings.network.startswith("vgg"):
        raise UserError(f"teacher.whiten: only a VGG can have a whitened first layer, and {settings.network} is none")
    return replace(base, **dropout, spectral_norm=settings.spectral_norm, whiten=settings.whiten)


def evenly_spaced(count: int, wanted: int) -> Tensor:
    """At most `wanted` indices below `count`, evenly spaced."""
    return torch.arange(0, count, -(-count // wanted))


def standardize(network: nn.Module, settings: TeacherSettings, train: Dataset) -> None:
    """Set the mean and standard deviation of the network's inputs: those of the settings, or else of the training
    images. Fit a whitened first layer."""
    if settings.mean is None:
        some = evenly_spaced(len(train), ENOUGH).split(PART)
        network.normalize.fit(map(train.batch, some) if train.lazy else train.parts())
    else:
        network.normalize.set(settings.mean, settings.std)
    if hasattr(network, "whiten"):  # a student of another kind has none
        network.whiten.fit(network.normalize(train.batch(evenly_spaced(len(train), ENOUGH_TO_WHITEN))))


def checksum_of(tensors: dict[str, Tensor], network: nn.Module, a: Architecture) -> str:
    """SHA-256 (16 hex digits) of all that determines a network's outputs. From outside, its code counts too: it holds
    dropout rates."""
    outside = (
        [repr(network), network.constants, repr(a.options), repr(a.digest)] if isinstance(network, External) else []
    )
    return artifact.checksum(tensors, *outside)


def members(config: Config) -> dict[str, Config]:
    """The networks to train: {folder below the run's folder: config}. Members of an ensemble differ in their seed
    alone, not in the split.

    Raises UserError for an unknown method, or a number of members that does not fit the method.
    """
    several = teacher_method(config.teacher.method).fixed_samples
    if several != (config.teacher.members > 1):
        needs = "two members or more" if several else "a single network"
        raise UserError(
            f"teacher.members: {config.teacher.members}, but teacher.method: {config.teacher.method} needs {needs}"
        )
    if not several:
        return {"": config}
    configs = {}
    for k in range(2 * config.teacher.members):
        alone = {
            "teacher": replace(config.teacher, members=1),
            "data": replace(config.data, split_seed=config.split_seed),
        }
        seed = 2 * config.teacher.members * config.seed + k  # two ensembles share no member
        configs[f"member{k}"] = replace(config, name=f"{config.name}/member{k}", seed=seed, **alone)
    return configs


def as_trained(config: Config) -> Config:
    """The config, with what it leaves open as in the file of its trained teacher, if there is one."""
    path = config.source / next(iter(members(config))) / FILE
    made = artifact.load(path, "teacher")[1]["settings"]["teacher"] if path.exists() else {}
    return replace(config, teacher=recipe.as_made(config.teacher, made))


def load_teacher(config: Config, compute: Compute) -> Teacher:
    """The trained teacher of a config, on the device. What the config leaves open is as in the teacher's file.

    Raises UserError if there is none, or if it was trained with other settings than the config's.
    """
    networks, checksums, kept = [], [], []
    for place, member in members(config).items():
        path = config.source / place / FILE
        if not path.exists():
            raise missing(path, "run train_teacher.py with the same --config first")
        tensors, metadata = artifact.load(path, "teacher")
        made = recipe.as_made(member.teacher, metadata["settings"]["teacher"])
        wanted = settings(replace(member, teacher=made))
        if config.student.other_images:
            wanted.pop("split")
        require_same(path, {key: metadata["settings"][key] for key in wanted}, wanted, config.folder)
        built = Architecture(**metadata["architecture"])
        network = build(built)
        network.load_state_dict(tensors)
        checksums.append(checksum_of(tensors, network, built))
        networks.append(spectral_norm.bake(network.to(compute.device).eval()))
        kept.append(metadata)
    checksum = checksums[0] if len(checksums) == 1 else hashlib.sha256("".join(checksums).encode()).hexdigest()[:16]
    first, seconds = kept[0], sum(metadata["seconds"] for metadata in kept)
    return Teacher(
        networks,
        Architecture(**first["architecture"]),
        first["classes"],
        first["settings"]["data"],
        checksum,
        first["history"],
        seconds,
    )
