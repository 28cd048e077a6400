"""The teacher of a run: the network, or networks, that its samples come from."""

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from configs.schema import Config
from data.dataset import Dataset
from methods import teacher_method
from methods.interface import Sampling
from models import spectral_norm
from models.architecture import Architecture
from models.networks import build
from training import artifact
from training.compute import Compute
from training.errors import UserError
from training.run import require_same

FILE = "teacher.safetensors"


@dataclass(frozen=True)
class Teacher:
    """Trained networks, in eval mode; data: the fingerprint of the images they were trained on; checksum: of all their weights; history:
    the first one's epochs; seconds: of training, all together."""

    networks: list[nn.Sequential]
    classes: list[str]
    data: str
    checksum: str
    history: list[dict[str, float]]
    seconds: float

    @property
    def network(self) -> nn.Sequential:
        """The first, from which a student starts."""
        return self.networks[0]

    def require_same_data(self, train: Dataset, config: Config) -> None:
        """Raise UserError if these are not the images that the networks were trained on, unless the config wants that of its student; their
        classes have to be the same."""
        if train.classes != self.classes:
            raise UserError(f"{train.name}: its classes are not those that the teacher was trained on")
        if train.fingerprint != self.data and not config.student.other_images:
            raise UserError(
                f"{train.name}: the training images are not those that the teacher was trained on ({train.fingerprint}, {self.data}); "
                "train the teacher anew (--overwrite), or set student.other_images: true to distil on these"
            )

    def samplers(self, method: str) -> tuple[Sampling, Sampling]:
        """What gives samples of the networks: for students and the reference's first half, and for its second half.

        Raises UserError if the method gives none.
        """
        samplers = teacher_method(method).samplers
        if samplers is None:
            raise UserError(f"teacher.method: {method} gives no samples, which a student is made of")
        return samplers(self.networks)


def settings(config: Config) -> dict[str, Any]:
    """All settings that decide a network's weights."""
    own = asdict(config.teacher)
    for name in ("method", "members"):  # what is made of it
        own.pop(name)
    images = {"size": config.data.size, "channels": config.data.channels}
    split = {"validation": config.data.validation, "split_seed": config.split_seed}
    return {"seed": config.seed, "teacher": own, "augmentation": asdict(config.data.augmentation), "images": images, "split": split}


def architecture(config: Config, classes: int) -> Architecture:
    """The architecture of the network that `config.teacher` describes."""
    own, images = config.teacher, config.data
    dropout = own.conv_dropout, own.head_dropout
    return Architecture(own.network, own.width, images.size, images.channels, classes, *dropout, spectral_norm=own.spectral_norm)


def members(config: Config) -> dict[str, Config]:
    """The networks to train: where, below the run's folder, and by what config. More than one differ in their seed alone, on one split.

    Raises UserError for a method that does not exist, or that has no use for as many networks.
    """
    several = teacher_method(config.teacher.method).one_way
    if several != (config.teacher.members > 1):
        needs = "two members or more" if several else "a single network"
        raise UserError(f"teacher.members: {config.teacher.members}, but teacher.method: {config.teacher.method} is of {needs}")
    if not several:
        return {"": config}
    configs = {}
    for k in range(2 * config.teacher.members):
        alone = {"teacher": replace(config.teacher, members=1), "data": replace(config.data, split_seed=config.split_seed)}
        seed = 2 * config.teacher.members * config.seed + k  # two ensembles share no member
        configs[f"member{k}"] = replace(config, name=f"{config.name}/member{k}", seed=seed, **alone)
    return configs


def load_teacher(config: Config, compute: Compute) -> Teacher:
    """The trained teacher of a config, on the device.

    Raises UserError if there is none, or if it was trained with other settings than the config's.
    """
    networks, checksums, kept = [], [], []
    for place, member in members(config).items():
        path = config.source / place / FILE
        if not path.exists():
            raise UserError(f"{path}: no such file; run train_teacher.py with the same --config first")
        tensors, metadata = artifact.load(path, "teacher")
        wanted = settings(member)
        if config.student.other_images:
            wanted.pop("split")
        require_same(path, {key: metadata["settings"][key] for key in wanted}, wanted, config.folder)
        network = build(Architecture(**metadata["architecture"]))
        network.load_state_dict(tensors)
        networks.append(spectral_norm.bake(network.to(compute.device).eval()))
        checksums.append(artifact.checksum(tensors))
        kept.append(metadata)
    checksum = checksums[0] if len(checksums) == 1 else hashlib.sha256("".join(checksums).encode()).hexdigest()[:16]
    first, seconds = kept[0], sum(metadata["seconds"] for metadata in kept)
    return Teacher(networks, first["classes"], first["settings"]["data"], checksum, first["history"], seconds)
