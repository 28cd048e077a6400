"""One pass over many images."""

from collections.abc import Callable

import torch
from torch import Tensor

from training import process_group
from training.run import Run


@torch.inference_mode()
def outputs_of(network: Callable[[Tensor], Tensor], images: Tensor, run: Run, batch_size: int = 1024) -> Tensor:
    """What `network`, in eval mode, gives for images [N, H, W, C]: float32 [N, K] on the run's device. Each process does its share."""
    with run.autocast():
        mine = torch.cat([network(batch.to(run.device)).float() for batch in process_group.shard(images).split(batch_size)])
    return process_group.gather(mine, len(images))
