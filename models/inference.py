"""One pass over many images."""

from collections.abc import Callable

import torch
from torch import Tensor

from data.dataset import Dataset
from data.loading import loader
from training import process_group
from training.compute import Compute

BATCH = 1024  # images


@torch.inference_mode()
def outputs_of(network: Callable[[Tensor], Tensor], images: Tensor | Dataset, compute: Compute) -> Tensor:
    """The outputs of `network`, in eval mode, for images [N, H, W, C] or a data set: float32 [N, K] on its device.

    Each process computes its shard, and every process gets all outputs.
    """
    read, lazy = (images.batch, images.lazy) if isinstance(images, Dataset) else (images.__getitem__, False)
    with compute.autocast():
        parts = process_group.shard(torch.arange(len(images))).split(BATCH)
        outputs = torch.cat([network(batch.to(compute.device)).float() for batch in loader(read, parts, lazy)])
    return process_group.gather(outputs, len(images))
