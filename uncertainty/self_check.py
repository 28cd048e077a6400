"""A check of a network that comes from outside: what is random in it and where, and whether it can be a teacher."""

import textwrap
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from configs.errors import UserError
from uncertainty.any_network import TOLERANCE, draws_of

PASSES = 16  # whose cost is measured


@dataclass(frozen=True)
class SelfCheck:
    """What the check found; `print` shows it as a table. random: {kind of randomness: names of modules}."""

    random: dict[str, list[str]]
    sampler: str
    cost: float

    def __str__(self) -> str:
        lines = {
            "without dropout": "two calls agree, and an image does not depend on its batch",
            "outputs": "logits",
            "random with dropout on": "; ".join(f"{kind} ({', '.join(names)})" for kind, names in self.random.items()),
            "sampled by": self.sampler,
            f"{PASSES} passes cost": f"{self.cost:.3g} single passes",
        }
        return "\n".join(
            textwrap.fill(f"{name:24}{text}", 120, subsequent_indent=24 * " ") for name, text in lines.items()
        )


@torch.no_grad()
def require_fit(network: nn.Module, images: Tensor) -> None:
    """Check on a few images [N, H, W, C], N ≥ 4, that a network can be a teacher. It is put into eval mode.

    Raises UserError if its logits are not finite, if two calls without dropout differ, if an image's logits depend on
    the other images of its batch, if the outputs are probabilities, or if a dropout has the rate 1.
    """
    whole, again, half = network.eval()(images), network(images), network(images[:2])
    if not whole.isfinite().all():
        raise UserError("the network's logits are not finite: look at its weights")
    if not torch.allclose(whole, again, rtol=TOLERANCE, atol=TOLERANCE):
        drawn = ", ".join(draws_of(network, images, dropout_on=False)).removeprefix("module.")
        names = drawn or "by numbers that torch does not draw"
        raise UserError(
            f"the network is random without dropout too ({names}): a functional dropout stays on at test time; write "
            "F.dropout(x, p, training=self.training)"
        )
    if not torch.allclose(whole[:2], half, rtol=TOLERANCE, atol=TOLERANCE):
        raise UserError(
            "an image's logits depend on the other images of its batch: a normalization uses the batch's statistics at "
            "test time (batch norm without running statistics?); use running statistics, or another normalization"
        )
    may_be_probabilities = not isinstance(network.classifier, nn.Linear)  # untrained, such a layer can give zeros
    if may_be_probabilities and bool(((whole >= 0) & (whole <= 1)).all()):
        raise UserError("the network gives probabilities, not logits: leave out the softmax or sigmoid at its end")
    if any(isinstance(layer, nn.Dropout) and layer.p == 1 for layer in network.modules()):
        raise UserError("the network has a dropout of rate 1, which leaves nothing")
