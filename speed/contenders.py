"""Ways to sample a dropout network, each as people write it: images [N, H, W, C] → log-probabilities [N, T, C] on the device."""

from contextlib import AbstractContextManager
from unittest import mock

import torch
from torch import Tensor, nn

import data
from configs.schema import MaskMode
from data.dataset import Dataset
from models.architecture import Architecture
from models.networks import build
from speed.measuring import DEVICE, DTYPE, autocast
from uncertainty.mc_dropout import Plan, Sampler

PASSES = 50
CLASSES = 10


def teacher(network: str = "vgg11", width: float = 0.5) -> nn.Sequential:
    """A network of `configs/cifar10_cpu.yaml`'s kind, with random weights, which cost what trained ones do."""
    torch.manual_seed(0)
    return build(Architecture(network, width, 32, 3, CLASSES, 0.1, 0.5)).to(DEVICE).eval()


def random_images(count: int) -> Tensor:
    """uint8 [N, 32, 32, 3]."""
    return torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)).to(DEVICE)


def made_up(count: int) -> AbstractContextManager:
    """Within this context the scripts train on `count` random images: what an image shows costs nothing."""
    names = [str(i) for i in range(CLASSES)]
    dataset = Dataset("random", random_images(count), torch.arange(count) % CLASSES, [""] * count, names)
    return mock.patch.object(data, "load_train", lambda *_: (dataset, None))


def plain(model: nn.Module, images: Tensor, batch_size: int, passes: int = PASSES, dtype: str = DTYPE) -> Tensor:
    """The loop that everybody writes."""
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    found = loop(model, images, batch_size, passes, dtype)
    model.eval()
    return found


def deterministic(model: nn.Module, images: Tensor, batch_size: int, passes: int = PASSES) -> Tensor:
    """As many passes of the same network without dropout, as torch runs it in eval mode."""
    return loop(model.eval(), images, batch_size, passes)


@torch.inference_mode()
def loop(model: nn.Module, images: Tensor, batch_size: int, passes: int, dtype: str = DTYPE) -> Tensor:
    """One pass after the other of each batch, in whatever mode the model is."""
    with torch.autocast(DEVICE.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        return torch.cat(
            [torch.stack([model(batch).float().log_softmax(-1) for _ in range(passes)], 1) for batch in images.split(batch_size)]
        )


@torch.inference_mode()
def torch_uncertainty(model: nn.Module, images: Tensor, batch_size: int, on_batch: bool, passes: int = PASSES) -> Tensor:
    """torch-uncertainty's wrapper: all passes of a batch as one batch, or one after the other. `batch_size` is what goes in at once."""
    from torch_uncertainty.methods import mc_dropout

    wrapped = mc_dropout(model, passes, on_batch=on_batch).eval()
    found = []
    with autocast():
        for batch in images.split(max(1, batch_size // passes) if on_batch else batch_size):
            found.append(wrapped(batch).float().log_softmax(-1).unflatten(0, (passes, len(batch))).transpose(0, 1))
    model.eval()
    return torch.cat(found)


def ours(sampler: Sampler, images: Tensor, batch_size: int, masks: MaskMode, passes: int = PASSES) -> Tensor:
    """This project's sampler, in groups of 256 images or, if that is fewer, a batch."""
    plan = Plan(passes, masks, min(256, batch_size), (0, "benchmark"))
    with autocast():
        groups = list(sampler(lambda indices: images[indices], plan.groups(len(images)), plan, batch_size))
    order = torch.cat([indices for _, indices, _ in groups]).argsort()
    return torch.cat([log_probs for _, _, log_probs in groups])[order.to(DEVICE)]
