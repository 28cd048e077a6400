"""The contract: what teacher and student require of every network.

1. `network(images)` gives the logits [N, C] of images [N, H, W, C] in 0-255; with M heads, [N, M, C].
2. `network.normalize` standardizes such images; its statistics are fitted to the training images before the training.
3. `network.features(images)` gives inputs of a student's perceptron: the mean output [N, F] of each block, and the last
   hidden layer.
4. `network.classifier` is the layer from that hidden layer to the logits: `network(images) =
   network.classifier(hidden)`.
5. Anything random in training is sampled. The fast sampler handles `nn.Dropout` among the layers of an
   `nn.Sequential`; the plain loop handles everything else (`uncertainty.any_network`).

`Network` meets the contract for layers in a row, `models.external.External` for any module. `check` is called when a
network is built.
"""

import torch
from torch import Tensor, nn

BLOCK_ENDS = ("pool", "stage", "hidden")  # how the names of layers at the end of a block begin


class Network(nn.Sequential):
    """Layers in a row, the first one named `normalize`, the last one the classifier."""

    @property
    def classifier(self) -> nn.Module:
        """The last layer."""
        return self[-1]

    @property
    def body(self) -> nn.Sequential:
        """All layers but the classifier."""
        return self[:-1]

    def features(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The mean output of each block (float32), and the input of the classifier."""
        means, x = [], images
        for name, layer in self.body.named_children():
            x = layer(x)
            if name.startswith(BLOCK_ENDS):
                means.append(x.flatten(2).mean(2).float() if x.ndim > 2 else x.float())
        return means, x


@torch.no_grad()
def check(network: nn.Module, images: Tensor) -> None:
    """Raise TypeError, naming the rule, for a network that does not meet the contract on `images` [N, H, W, C]."""
    for name in ("normalize", "features", "classifier"):
        if not hasattr(network, name):
            raise TypeError(f"{type(network).__name__} has no `{name}` (models/contract.py)")
    training = network.training
    means, hidden = network.eval().features(images)
    if not means or any(mean.ndim != 2 for mean in means):
        raise TypeError("`features` has to give the mean output [N, F] of one block or more (contract.py, rule 3)")
    if not (hidden.is_meta or torch.allclose(network(images), network.classifier(hidden), equal_nan=True)):
        raise TypeError("the network is not its `classifier` after its `features` (models/contract.py, rule 4)")
    network.train(training)
