"""One pass over many images."""

from collections.abc import Callable

import torch
from torch import Tensor

from training import process_group
from training.compute import Compute


@torch.inference_mode()
def outputs_of(network: Callable[[Tensor], Tensor], images: Tensor, compute: Compute, batch_size: int = 1024) -> Tensor:
    """What `network`, in eval mode, gives for images [N, H, W, C]: float32 [N, K] on its device. Each process does its share."""
    with compute.autocast():
        mine = torch.cat([network(batch.to(compute.device)).float() for batch in process_group.shard(images).split(batch_size)])
    return process_group.gather(mine, len(images))
