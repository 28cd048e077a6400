"""Ways to sample a dropout network, each in its usual form: images [N, H, W, C] → log-probabilities [N, T, C] on the
device."""

import torch
from torch import Tensor, nn
from training.loop import Task

from configs.schema import Config, MaskMode
from data.dataset import Dataset
from data.views import make_views
from methods.student import Student, new_student
from methods.teacher import Teacher
from models.architecture import Architecture
from models.networks import build
from speed.measuring import COMPUTE
from train_student import Sampled, distillation_task
from train_teacher import classification_task
from training import cli
from uncertainty.mc_dropout import Plan, Sampler
from uncertainty.samples import statistics

PASSES = 50
CLASSES = 10
NETWORK, WIDTH = "vgg11", 0.5


def teacher(network: str = NETWORK, width: float = WIDTH) -> nn.Sequential:
    """A VGG-11 of half the width, or another network, with random weights, which take as long as trained ones."""
    torch.manual_seed(0)
    return build(Architecture(network, width, 32, 3, CLASSES, 0.1, 0.5)).to(COMPUTE.device).eval()


def random_images(count: int) -> Tensor:
    """uint8 [N, 32, 32, 3]."""
    return torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)).to(
        COMPUTE.device
    )


def random_set(count: int) -> Dataset:
    """A data set of random images: the time does not depend on what an image shows."""
    classes = [str(c) for c in range(CLASSES)]
    return Dataset("random", random_images(count).cpu(), torch.arange(count) % CLASSES, [""] * count, classes)


def settings(method: str = "dirichlet") -> Config:
    """The settings of `configs/cifar10_cpu.yaml`, with a student of that method and the network of `teacher`, which is
    not whitened."""
    config, _ = cli.parse(["--config", "configs/cifar10_cpu.yaml"])
    network = {"network": NETWORK, "width": WIDTH, "whiten": False, "identity_start": False}
    return cli.override(config, {"teacher": network, "student": {"method": method}}, "speed")


def teacher_task(count: int = 1024) -> Task:
    """The teacher's training, on random images."""
    return classification_task(teacher(), random_set(count), None, settings(), COMPUTE)


def student(method: str = "dirichlet") -> Student:
    """A student of `teacher`, untrained: its weights take as long as trained ones."""
    architecture = Architecture(NETWORK, WIDTH, 32, 3, CLASSES)
    known = Teacher([teacher()], architecture, [str(c) for c in range(CLASSES)], "", "", [], 0.0)
    model, _ = new_student(settings(method), known, random_set(1024))
    return model.to(COMPUTE.device)


def student_task(count: int = 1024) -> Task:
    """The student's training, on random images and samples."""
    config, images = settings(), random_set(count)
    views = make_views(config.sampling.views, images, config.data.augmentation, 0, COMPUTE.device)
    samples = statistics(torch.randn(count, config.sampling.passes, CLASSES, device=COMPUTE.device).log_softmax(-1))
    return distillation_task(student(), Sampled(views, len(views) * [samples]), None, config, COMPUTE)


def plain(
    model: nn.Module, images: Tensor, batch_size: int, passes: int = PASSES, dtype: str = COMPUTE.dtype
) -> Tensor:
    """The usual loop: eval mode, dropout modules in training mode."""
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    samples = loop(model, images, batch_size, passes, dtype)
    model.eval()
    return samples


def deterministic(model: nn.Module, images: Tensor, batch_size: int, passes: int = PASSES) -> Tensor:
    """As many passes of the same network without dropout, as torch runs it in eval mode."""
    return loop(model.eval(), images, batch_size, passes)


@torch.inference_mode()
def loop(model: nn.Module, images: Tensor, batch_size: int, passes: int, dtype: str = COMPUTE.dtype) -> Tensor:
    """One pass after the other of each batch, without changing the mode of the model."""
    with torch.autocast(COMPUTE.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        return torch.cat(
            [
                torch.stack([model(batch).float().log_softmax(-1) for _ in range(passes)], 1)
                for batch in images.split(batch_size)
            ]
        )


@torch.inference_mode()
def torch_uncertainty(
    model: nn.Module, images: Tensor, batch_size: int, on_batch: bool, passes: int = PASSES
) -> Tensor:
    """torch-uncertainty's wrapper: all passes of a batch as one batch, or one after the other. batch_size: inputs per
    forward pass."""
    from torch_uncertainty.methods import mc_dropout

    wrapped = mc_dropout(model, passes, on_batch=on_batch).eval()
    samples = []
    with COMPUTE.autocast():
        for batch in images.split(max(1, batch_size // passes) if on_batch else batch_size):
            samples.append(wrapped(batch).float().log_softmax(-1).unflatten(0, (passes, len(batch))).transpose(0, 1))
    model.eval()
    return torch.cat(samples)


def ours(sampler: Sampler, images: Tensor, batch_size: int, masks: MaskMode, passes: int = PASSES) -> Tensor:
    """This project's sampler, in groups of 256 images, or of a batch if that is smaller."""
    plan = Plan(passes, masks, min(256, batch_size), (0, "benchmark"))
    with COMPUTE.autocast():
        groups = list(sampler(lambda indices: images[indices], plan.groups(len(images)), plan, batch_size))
    order = torch.cat([indices for _, indices, _ in groups]).argsort()
    return torch.cat([log_probs for _, _, log_probs in groups])[order.to(COMPUTE.device)]
