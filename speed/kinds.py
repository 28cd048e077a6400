"""Every kind of network that the sampler takes: the moments of its samples and its time, beside a plain loop that is
written here.

    python -m speed.kinds

Untrained networks with random images of 32x32 pixels, one thread. Writes speed/results/kinds.json.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from configs.errors import UserError
from docs.examples.my_models import make_mobilenet, make_resnet18
from models.architecture import Architecture
from models.networks import build
from speed.measuring import middle, ratio, write
from uncertainty.any_network import sampler_of
from uncertainty.mc_dropout import Plan, samples_of
from uncertainty.speed import in_turn

SIZE, CLASSES = 32, 4
IMAGES, PASSES = 8, 2000  # of the moments
TIMED_IMAGES, TIMED_PASSES, ROUNDS = 64, 50, 7  # a group


class Everything(nn.Module):
    """Each kind of randomness, a dropout that is called twice, and a batch norm."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8)
        self.channels, self.twice, self.alpha = nn.Dropout2d(0.3), nn.Dropout(0.2), nn.AlphaDropout(0.1)
        self.depth = torchvision.ops.StochasticDepth(0.3, "row")
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.2, batch_first=True)
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] → logits."""
        x = self.twice(self.channels(self.norm(self.convolution(x)).relu()))
        x = x + self.depth(self.alpha(self.twice(x)))
        x = F.dropout(x, 0.1, self.training).flatten(2).mT
        x = x + self.attention(x, x, x)[0]
        x = x + F.scaled_dot_product_attention(x, x, x, dropout_p=0.2 if self.training else 0.0)
        return self.last(x.mean(1))


class Rows(nn.Module):
    """An LSTM over an image's rows, with dropout between its layers."""

    def __init__(self):
        super().__init__()
        self.lstm, self.last = nn.LSTM(3 * SIZE, 64, 2, dropout=0.5, batch_first=True), nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] → logits."""
        return self.last(self.lstm(x.permute(0, 2, 1, 3).flatten(2))[0][:, -1])


class Unused(nn.Module):
    """A dropout that is never called."""

    def __init__(self):
        super().__init__()
        self.layers, self.dropout = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, CLASSES)), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] → logits."""
        return self.layers(x)


class Counts(Unused):
    """A network that counts its passes in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] → logits."""
        self.calls += 1
        return self.dropout(self.layers(x))


def vit() -> nn.Module:
    """torchvision's, with dropout in blocks and in attention."""
    network = torchvision.models.VisionTransformer(
        SIZE, 8, 2, 4, 64, 128, dropout=0.1, attention_dropout=0.1, num_classes=CLASSES
    )
    nn.init.normal_(network.heads.head.weight)  # torchvision's are zeros
    return network


def mobilenet_head() -> nn.Module:
    """torchvision's: dropout in the classifier alone."""
    return torchvision.models.mobilenet_v3_small(num_classes=CLASSES, dropout=0.4)


def dropout_twice() -> nn.Module:
    """One module in two places."""
    dropout = nn.Dropout(0.3)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3 * SIZE**2, 512), dropout, nn.ReLU(), dropout, nn.Linear(512, CLASSES)
    )


def channels_beside_units() -> nn.Module:
    """Masks of whole channels, then of units."""
    convolution = nn.Conv2d(3, 16, 3, 2)
    return nn.Sequential(
        convolution, nn.Dropout2d(0.5), nn.ReLU(), nn.Flatten(), nn.Dropout(0.01), nn.Linear(16 * 15**2, CLASSES)
    )


def our(kind: str) -> nn.Module:
    """A network of this project, for images [N, 3, H, W] as the others are."""
    return build(Architecture(kind, 0.25, SIZE, 3, CLASSES, 0.1, 0.5))[1:]  # without its normalization of pixels


KINDS: dict[str, Callable[[], nn.Module]] = {
    "VGG-11, ours": lambda: our("vgg11"),
    "ResNet-18, ours": lambda: our("resnet18"),
    "ResNet-18, dropout behind blocks": lambda: make_resnet18(CLASSES),
    "MobileNetV3, dropout behind blocks": lambda: make_mobilenet(CLASSES),
    "MobileNetV3, dropout in the head": mobilenet_head,
    "vision transformer": vit,
    "LSTM": Rows,
    "every kind at once": Everything,
    "one dropout in two places": dropout_twice,
    "channels beside units": channels_beside_units,
    "dropout never called": Unused,
    "a buffer that changes": Counts,
}


def by_hand(network: nn.Module, images: Tensor, passes: int) -> Tensor:
    """The loop that one would write: T passes with all in training mode but batch norm → log probabilities [N, T,
    C]."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    with torch.inference_mode():
        logits = torch.stack([network(images) for _ in range(passes)], 1)
    network.eval()
    return logits.log_softmax(-1)


def warmed(make: Callable[[], nn.Module]) -> nn.Module:
    """An untrained network whose batch norms have seen some images, and whose logits differ enough for probabilities to
    vary."""
    torch.manual_seed(0)
    network = make().train()
    images = torch.randn(20, TIMED_IMAGES, 3, SIZE, SIZE)
    *_, last = [module for module in network.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad():
        for batch in images:
            network(batch)
        last.weight *= 2 / network.eval()(images[0]).std(0).mean()
    return network


def compared(name: str, make: Callable[[], nn.Module]) -> dict:
    """One kind: refused, with the words; or how far its moments are from the loop's, and its time over the loop's."""
    network = warmed(make)
    images = torch.randn(TIMED_IMAGES, 3, SIZE, SIZE)
    few = images[:IMAGES]
    try:
        sampler = sampler_of(network)
        ours = samples_of(sampler, few, Plan(PASSES, "independent", IMAGES, (0, "kinds")), 512).log_probs.exp()
    except UserError as error:
        return {"refused": str(error)}
    theirs = by_hand(network, few, PASSES).exp()
    error = ((ours.var(1) + theirs.var(1)) / PASSES).sqrt()
    z = ((ours.mean(1) - theirs.mean(1)) / error)[error > 1e-7]
    squares = [(probs - probs.mean(1, keepdim=True)).square().sum(2).mean(0) for probs in (ours, theirs)]  # [T]
    variances = [value.mean().item() for value in squares]
    spread = sum(value.var().item() / PASSES for value in squares) ** 0.5
    plan = Plan(TIMED_PASSES, "grouped", TIMED_IMAGES, (0, "kinds"))
    works = {
        "ours": lambda: list(sampler(lambda indices: images[indices], plan.groups(TIMED_IMAGES), plan, TIMED_IMAGES)),
        "loop": lambda: by_hand(network, images, TIMED_PASSES),
    }
    times = ratio(in_turn(works, ROUNDS, name), "ours", "loop")
    return {
        "sampler": str(sampler),
        "mean_z": {"rms": z.square().mean().sqrt().item(), "largest": z.abs().max().item()},
        "total_variance": {"ours": variances[0], "loop": variances[1], "z": (variances[0] - variances[1]) / spread},
        "time": middle(times),
    }


def main() -> None:
    """The table of kinds."""
    write("kinds", {}, kinds={name: compared(name, make) for name, make in KINDS.items()}, passes=PASSES, images=IMAGES)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
