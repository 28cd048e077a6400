"""Every setting of an experiment, as nested dataclasses.

The docstring below a field is its documentation: `python train_teacher.py --help` prints the same text. A YAML file of
this folder gives the fields of one experiment, the others have the defaults here; the command line overrides both
(`--teacher.epochs 30`).
"""

import os
import re
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked

STRICT = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False)
dataclass = checked(config=STRICT)  # a dataclass that refuses unknown names and values of another type

MANY = 10**9
NAME = r"\w[\w +.=,-]*"
Whole = Annotated[int, Field(ge=0, le=MANY)]
Count = Annotated[int, Field(ge=1, le=MANY)]
Several = Annotated[int, Field(ge=2, le=MANY)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
NonNegative = Annotated[float, Field(ge=0, lt=1e6)]
Positive = Annotated[float, Field(gt=0, lt=1e6)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
RunName = Annotated[str, Field(pattern=rf"^{NAME}(/{NAME})*$")]
SetName = Annotated[str, Field(pattern=rf"^{NAME}$")]
# A callable: my_models.py:make, torchvision:mobilenet_v3_small.
External = Annotated[str, Field(pattern=r"^[^:]+:\w+$")]

Toy = Literal["digits", "letters", "noise", "two_moons", "spiral", "plane"]
Source = Literal[Toy, "cifar10", "cifar100", "svhn", "mnist", "fashion_mnist", "kmnist", "tiny_imagenet", "folder"]
MaskMode = Literal["independent", "grouped", "function"]
Network = Literal["vgg5", "vgg7", "vgg11", "vgg13", "vgg16", "vgg19", "resnet18", "mlp"]
Dropped = Literal["units", "channels", "filters"]
Shape = tuple[int, int, int]
"""[H, W, C] of an image."""
Size = Count | Annotated[list[Count], Field(min_length=2, max_length=2)]
Resize = Literal["squash", "crop", "pad"]
View = Literal["plain", "augmented", "mixup", "cutmix", "strong", "other"]


def image_shape(size: int | list[int], channels: int) -> Shape:
    """[H, W, C] of an image."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width, channels


@dataclass
class DataSet:
    """One data set."""

    source: Source | External = "digits"
    """Where the images come from. A published set (cifar10, ..., tiny_imagenet) is read from its own files below
    `root`, or from class folders `<root>/<source>/<split>/<class>/`, else downloaded. `folder` reads
    `<root>/<split>/<class>/*.png` (jpg, webp, bmp, tif), or, out of distribution, any tree of images.
    `my_data.py:spectrograms` names a callable that returns, for `split` (train or test), a torch.utils.data.Dataset of
    (image, label). The file is run."""
    root: str = "datasets"
    """The folder of all published sets, or the tree of images of a `folder`."""
    partial: bool = False
    """Accept a published set with missing images; its name then says how many there are."""
    name: SetName | None = None
    """The name in tables, plots and file names. Default: the source, or the last part of a folder's path."""

    @property
    def title(self) -> str:
        """The given name, or else the default one."""
        if self.name is None and self.source == "folder":
            return re.sub(r"[^\w +.=,-]", "_", os.path.basename(os.path.abspath(self.root)))
        return self.name or self.source.rpartition(":")[2]


@dataclass
class Augmentation:
    """Random changes of a training image, drawn anew for each image in each epoch (or view)."""

    flip: bool | Literal["alternating"] = True
    """Mirror left and right with probability one half. `alternating`: in the teacher's training each image is mirrored
    in every second epoch (Jordan 2024)."""
    crop: Whole = 4
    """Shift by up to this many pixels along each axis; the border is filled by reflection."""
    rotation: NonNegative = 0.0
    """Rotate by up to this many degrees either way (Truong 2019: 15)."""
    noise: Rate = 0.0
    """Add Gaussian noise to half of the images, whose standard deviation is uniform up to this share of the range of
    pixels."""


@dataclass
class Data:
    """The in-distribution and out-of-distribution data sets, and how images are prepared."""

    train: DataSet = field(default_factory=DataSet)
    """The in-distribution set: its train split trains teacher and student, its test split is for evaluate.py alone."""
    ood: list[DataSet] = field(default_factory=list)
    """Out-of-distribution sets (their test splits)."""
    max_ood: Count | None = None
    """Evaluate on a fixed random subset of at most this many images of each out-of-distribution set."""
    size: Size = 32
    """Height and width in pixels, or both: [32, 50]; images of another size are resized."""
    resize: Resize = "squash"
    """How images get the proportions of `size`: `squash` changes theirs, `crop` cuts the ends of the longer side, `pad`
    extends the shorter side with black."""
    channels: Count = 3
    """3 for RGB, 1 for grey; images of files are converted. Another number for vectors (docs/own_networks.md)."""
    validation: Count | Share = 0.1
    """Training images set aside for validation, chosen by seed (unless teacher.train_on_all): a count, or a share of
    all."""
    split_seed: Seed | None = None
    """Fixes which images are set aside for validation, and which subset `max_ood` takes. Default: `seed`."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Augmentation of the teacher's training images, and of the `augmented` views."""
    decoded: str | None = "datasets/decoded"
    """The folder that keeps decoded images of image folders; they are memory-mapped from there. null: nothing is kept,
    and worker processes decode images on demand."""

    def __post_init__(self):
        if self.augmentation.crop >= min(self.shape[:2]):
            raise ValueError(
                f"data.augmentation.crop: {self.augmentation.crop} is not less than data.size, {self.size}"
            )

    @property
    def shape(self) -> Shape:
        """[H, W, C] of an image."""
        return image_shape(self.size, self.channels)


@dataclass
class Training:
    """The training settings that teacher and student share: a one-cycle schedule."""

    epochs: Count | None = None
    """Passes over the training images. Default: chosen from the number of images and their size (docs/use.md)."""
    batch_size: Several | None = None
    """Images per step. Default: 64, or 32 for fewer than 1,280 images."""
    lr: Positive | None = None
    """The peak of the one-cycle learning rate. Default: one that is safe for few images (docs/use.md)."""
    warmup: Rate = 0.2
    """Share of the steps before the peak."""
    weight_decay: NonNegative = 5e-4
    """On weights of convolutions and linear layers (not on batch norm, not on biases)."""


@dataclass
class TeacherSettings(Training):
    """The teacher: a network with dropout, or another source of uncertainty such as an ensemble; trained by SGD."""

    method: str = "mc_dropout"
    """How the trained network (or networks) give uncertainties: one of TEACHERS in methods/. A student needs one that
    gives samples: mc_dropout or ensemble."""
    network: Network | External | None = None
    """The name contains the number of layers; vgg5 is for 8x8 images, vgg7 learns 32x32 images quickly, mlp is for
    points of a plane. `file.py:callable`, or `torchvision:name`, gives an external network: any module from floats
    [N, C, H, W] to logits. The file is run. Default: chosen from the size of the images (docs/use.md)."""
    options: dict[str, Any] | None = None
    """The arguments of an external callable, by name."""
    weights: str | None = None
    """Trained weights of an external network: a state_dict, as .safetensors or .pt. Nothing is trained then."""
    mean: list[float] | None = None
    """The mean of each channel, for pixels in [0, 1], that standardizes the images. Default: that of the training
    images."""
    std: list[Positive] | None = None
    """The standard deviation of each channel, likewise."""
    width: Positive | None = None
    """Multiplies the number of channels of every layer. Default: 1, or 0.5 if `network` is chosen."""
    dropped: Dropped = "units"
    """What dropout drops in the convolutional part: single units; whole channels, after the ReLU; or the filters'
    outputs, before batch norm."""
    members: Count = 1
    """How many networks an ensemble has. Twice as many are trained, in <name>/member0, ...: the first half is the
    ensemble, the second half is the reference that its students are compared with."""
    whiten: bool = False
    """A first layer that is not trained: whitened 2x2 patches (of a VGG)."""
    identity_start: bool = False
    """First weights with which layers pass on their inputs and the last one gives zeros; batch norm's scale stays 1
    (Jordan 2024). Without, they are random (He et al. 2015)."""
    shift_lr: Positive | None = None
    """The peak learning rate of what batch norm adds (Jordan 2024: 64 times lr). Default: lr."""
    spectral_norm: Positive | None = None
    """Keep the largest singular value of every layer but the last below this (3.0 for ddu)."""
    momentum: Rate = 0.9
    """Nesterov momentum."""
    conv_dropout: Rate | list[Rate] = 0.1
    """Dropout after each convolution's ReLU: one rate for all, or a list with one for each."""
    head_dropout: Rate | list[Rate] = 0.5
    """Dropout before each linear layer of the classifier: one rate for all, or a list with one for each."""
    label_smoothing: Rate = 0.0
    """Share of the target that is spread over all classes."""
    train_on_all: bool = False
    """Train on the validation images too. The last epoch is kept, as no images are left to choose the best one."""


@dataclass
class McDropout:
    """How the teacher is sampled."""

    passes: Several = 16
    """Forward passes with dropout on, for each image and view."""
    masks: MaskMode = "grouped"
    """`independent`: a mask for each image and pass. `grouped`: all images of a group share one mask per pass (the
    distribution of each image is the same, and a CPU is several times faster). `function`: pass t has the same masks
    for every image."""
    group_size: Count = 256
    """Images that share a mask."""


@dataclass
class Sampling(McDropout):
    """MC-dropout samples of the training images, which the student learns from. They are made once and cached."""

    stratified: bool = True
    """Passes whose masks complement each other, each with many masks of the classifier: their statistics have less
    noise (docs/method.md). Masks that are functions never are."""
    views: list[View] = field(default_factory=lambda: ["augmented", "mixup", "cutmix", "strong"])
    """The views made of each training image, each with its own samples. A kind can appear several times, each time with
    other draws. `other`: an augmented image of the set `other` in its place."""
    held_out: Whole = 0
    """The validation images, which the teacher has not seen, are among the student's training images, so many times
    each, with other draws of every view. Then the student's last epoch is kept."""
    other: DataSet | None = None
    """A set of other images (its train split), whose labels are not used: the student then learns what the teacher says
    of them."""

    def __post_init__(self):
        if not self.views:
            raise ValueError("sampling.views: there has to be one or more")
        if ("other" in self.views) != (self.other is not None):
            raise ValueError("sampling.views, sampling.other: the view `other` needs a set, and a set that view")


@dataclass
class StudentSettings(Training):
    """The network that gives the teacher's distribution in one pass; trained by AdamW."""

    method: str = "dirichlet"
    """One of STUDENTS in methods/. `dirichlet`: a Dirichlet, with every measure in closed form. `logit_gaussian`: a
    Gaussian over logits, with measures from 256 fixed draws; it can match the teacher's total variance and its mutual
    information at once. The other methods are by other authors."""
    network: Network | Literal["teacher"] = "teacher"
    """`teacher`: the same as the teacher's; or another network of this repository."""
    width: Positive | None = None
    """Multiplies the number of channels of every layer. Default: the teacher's."""
    layers: list[str] | None = None
    """For an external network: the layers whose mean outputs the perceptron takes. Default: the last one of each
    output shape."""
    options: dict[str, bool | int | float | str | list[str]] | None = None
    """The method's own settings, by name; its file in methods/students/ describes them."""
    lr: Positive = 1e-4
    """The peak of the one-cycle learning rate. It is low, because the student starts from the teacher's weights."""
    head_lr: Positive = 1e-3
    """The peak learning rate of the new part: the perceptron, or for a method without one the last layer (or heads)."""
    weight_decay: NonNegative = 0.0
    """On weights of all layers of the network but the last."""
    averaging: Rate = 0.04
    """Keep an exponential moving average of the weights over this share of the training; 0: keep the last weights."""
    init: Literal["teacher", "random"] = "teacher"
    """Start from the teacher's weights (of every layer that fits; of a wider one its first channels) or from random
    ones."""
    batch_norm: Literal["teacher", "batch"] = "teacher"
    """The statistics that batch norm uses in training. `teacher`: the teacher's, as in its own passes, if all of its
    weights fit. `batch`: those of each batch."""
    seed: Seed = 0
    """Fixes the perceptron's initial weights and the batches: another seed gives another student of the same teacher
    and samples."""
    other_images: bool = False
    """Allow training images that are not the teacher's (of the same classes). If false, they are refused."""


@dataclass
class Evaluation(McDropout):
    """The reference of evaluate.py: two independent halves of `passes` teacher passes each."""

    passes: Several = 100
    """Forward passes of one half of the reference."""
    group_size: Count = 16
    """Images that share a mask; the bootstrap resamples whole groups."""
    bootstrap: Count = 1000
    """Resamples behind each 95% interval."""
    shifted: Whole = 0
    """Test images that compare.py also shows under covariate shift (data/corruptions.py), a fixed random sample; 0:
    none."""
    human_labels: str | None = None
    """CIFAR-10H: `cifar10h-counts.npy` (its authors', in CIFAR-10's test order), or a CSV with the columns `image` (the
    path below the data set's root), `test_index` and one for each class. Human entropy is then compared with every
    measure."""

    def __post_init__(self):
        if self.masks == "function":
            raise ValueError("evaluation.masks: with `function` all images share masks, and no interval would be right")


@dataclass
class Row:
    """One row of a comparison's table."""

    title: str = ""
    """The row's name in the table."""
    kind: Literal["teacher", "student"] = "student"
    """`student`: a student is trained and measured. `teacher`: `teacher.method` itself is measured."""
    of: str | None = None
    """The title of an earlier row, whose networks and changes this row takes over."""
    changes: dict[str, Any] = field(default_factory=dict)
    """The row's changes to the config. In texts, {seed} and {name} stand for the row's seed and the config's name."""
    seeds: list[Seed] = field(default_factory=lambda: [0])
    """The row is run once with each of these seeds."""
    compared_with: str | None = None
    """The teacher method whose samples the row is compared with. Default for a student: its own teacher's method."""


@dataclass
class Config:
    """Uncertainty distillation: teacher, samples, student, measures."""

    name: RunName = "digits"
    """Results go to <runs>/<name>."""
    teacher_of: RunName | None = None
    """Use the teacher and samples of the run of this name instead of training a teacher. Both runs must have the same
    settings for them."""
    runs: str = "runs"
    """The folder of all runs."""
    results: str | None = None
    """The folder of all comparisons' results, which go to <results>/<name>. Default: `runs`."""
    seed: Seed = 0
    """Fixes the split, the weights, the batches, the views and the masks."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes a GPU if there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the networks; auto is bfloat16 autocast where the hardware has it."""
    weights: Literal["float32", "float16"] = "float32"
    """The type of the weights in the networks' files. float16 halves the files; the later stages use the rounded
    weights."""
    data: Data = field(default_factory=Data)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    sampling: Sampling = field(default_factory=Sampling)
    student: StudentSettings = field(default_factory=StudentSettings)
    evaluation: Evaluation = field(default_factory=Evaluation)
    rows: list[Row] = field(default_factory=list)
    """The rows that compare.py compares, in the order in which they are run."""
    only: list[str] = field(default_factory=list)
    """The titles of the rows that compare.py runs now. Default: all. Processes with different rows can run at once."""
    compared_on: Literal["test", "validation"] = "test"
    """The images that compare.py measures on. `test`: the test images and the out-of-distribution sets. `validation`:
    the validation images and synthetic shifts of them, to choose a recipe without seeing the test data."""

    @property
    def folder(self) -> Path:
        """The folder of this run."""
        return Path(self.runs) / self.name

    @property
    def source(self) -> Path:
        """The folder of the run whose teacher and samples are used: this one's own, or that of `teacher_of`."""
        return Path(self.runs) / (self.teacher_of or self.name)

    @property
    def split_seed(self) -> int:
        """The seed of the split and of the subsets."""
        return self.seed if self.data.split_seed is None else self.data.split_seed
