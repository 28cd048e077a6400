"""One pass over many images."""

import torch
from torch import Tensor, nn

from configs.run import Run


@torch.inference_mode()
def logits_of(network: nn.Module, images: Tensor, run: Run, batch_size: int = 1024) -> Tensor:
    """The outputs of `network`, in eval mode, for images [N, H, W, C] on the run's device: float32 [N, K]."""
    network.eval()
    with run.autocast():
        return torch.cat([network(batch.to(run.device)).float() for batch in images.split(batch_size)])
