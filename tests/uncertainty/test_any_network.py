"""MC-dropout of any network, against a loop that is written here."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from models.architecture import Architecture
from models.networks import build
from training.errors import UserError
from uncertainty.any_network import PlainLoop, sampler_of
from uncertainty.mc_dropout import Plan, Sampler, samples_of

T, N = 250, 6


class Everything(nn.Module):
    """Each kind of randomness, a dropout that is called twice, and a batch norm."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.channels, self.twice, self.alpha = nn.Dropout2d(0.3), nn.Dropout(0.2), nn.AlphaDropout(0.1)
        self.depth = torchvision.ops.StochasticDepth(0.3, "row")
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.2, batch_first=True)
        self.last = nn.Linear(8, 4)

    def forward(self, x):
        x = self.twice(self.channels(self.norm(self.convolution(x)).relu()))
        x = x + self.depth(self.alpha(self.twice(x)))
        x = F.dropout(x, 0.1, self.training).flatten(2).mT
        x = x + self.attention(x, x, x)[0]
        x = x + F.scaled_dot_product_attention(x, x, x, dropout_p=0.2 if self.training else 0.0)
        return 3 * self.last(x.mean(1))


class Rows(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.last = nn.LSTM(24, 16, 2, dropout=0.5, batch_first=True), nn.Linear(16, 4)

    def forward(self, x):
        return 4 * self.last(self.lstm(x.permute(0, 2, 1, 3).flatten(2))[0][:, -1])


def resnet() -> nn.Module:
    model = torchvision.models.resnet18(num_classes=4)
    for block in (model.layer2[1], model.layer4[0]):
        block.relu = nn.Sequential(nn.ReLU(), nn.Dropout(0.2))  # called twice in each block
    return model


def vit() -> nn.Module:
    model = torchvision.models.VisionTransformer(8, 4, 2, 2, 16, 32, dropout=0.2, attention_dropout=0.2, num_classes=4)
    nn.init.normal_(model.heads.head.weight)
    return model


def mobilenet() -> nn.Module:
    model = torchvision.models.mobilenet_v3_small(num_classes=4, dropout=0.4)
    nn.init.normal_(model.classifier[-1].weight, std=300)  # its features are as small as its first weights
    return model


NETWORKS = {
    "everything": Everything,
    "rows": Rows,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "vit": vit,
    "dropout twice": lambda: (lambda d: nn.Sequential(nn.Flatten(), nn.Linear(192, 16), d, nn.ReLU(), d, nn.Linear(16, 4)))(
        nn.Dropout(0.3)
    ),
    "channels beside units": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Dropout2d(0.5), nn.ReLU(), nn.Flatten(), nn.Dropout(0.01), nn.Linear(288, 4)
    ),
}


def independent(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Probabilities [N, T, C] of a plain loop that knows these networks: everything trains but batch norm."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    torch.manual_seed(1)
    with torch.no_grad():  # all passes as one batch: whatever is random is so for each image
        return network(images.repeat(T, 1, 1, 1)).softmax(1).view(T, N, -1).transpose(0, 1)


@pytest.mark.parametrize("name", NETWORKS)
def test_samples_have_the_moments_of_a_plain_loop(name):
    torch.manual_seed(0)
    network, images = NETWORKS[name]().train(), torch.randn(N, 3, 8, 8)
    for _ in range(10):
        network(images)  # batch norm's statistics
    network.eval()
    sampler = sampler_of(network)
    assert isinstance(sampler, PlainLoop)
    ours = samples_of(sampler, images, Plan(T, "grouped", 3, (0, "test")), 512).log_probs.exp()
    theirs = independent(network, images)
    error = ((ours.var(1) + theirs.var(1)) / T).sqrt().clamp_min(1e-6)
    assert ((ours.mean(1) - theirs.mean(1)).abs() / error).max() < 5
    assert ours.var(1).sum().item() == pytest.approx(theirs.var(1).sum().item(), rel=0.15) and theirs.var(1).sum() > 0.003


@pytest.mark.parametrize("kind", ["vgg5", "resnet18"])
def test_the_projects_own_networks_take_the_fast_way_to_the_same_moments(kind):
    torch.manual_seed(0)
    network = build(Architecture(kind, 0.125, 8, 3, 4, 0.2, 0.5)).eval()
    images = torch.randint(0, 256, (N, 8, 8, 3), dtype=torch.uint8)
    fast, slow = sampler_of(network), PlainLoop(network)
    assert isinstance(fast, Sampler)
    ours, theirs = (samples_of(s, images, Plan(T, "grouped", 4, (0, "test")), 512).log_probs.exp() for s in (fast, slow))
    error = ((ours.var(1) + theirs.var(1)) / T).sqrt().clamp_min(1e-6)
    assert ((ours.mean(1) - theirs.mean(1)).abs() / error).max() < 6  # a shared mask errs in whole groups
    assert ours.var(1).sum().item() == pytest.approx(theirs.var(1).sum().item(), rel=0.2)


def test_samples_depend_on_the_plan_alone():
    network, images = Everything().eval(), torch.randn(N, 3, 8, 8)
    plan = Plan(3, "grouped", 5, (0, "test"))
    state = torch.random.get_rng_state()
    first, again = (samples_of(PlainLoop(network), images, plan, size).log_probs for size in (1, 512))
    assert torch.equal(first, again) and torch.equal(torch.random.get_rng_state(), state)
    groups = plan.groups(N)
    (_, indices, alone), *_ = PlainLoop(network)(lambda i: images[i], groups[1:2], plan)  # as after an interruption
    assert torch.equal(alone, first[indices])
    assert not network.training and not network.norm.training


def test_what_is_not_random_or_not_repeatable_is_refused():
    images, plan = torch.randn(N, 3, 8, 8), Plan(3, "grouped", 5, (0, "test"))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.unused = flat, nn.Dropout(0.5)

        def forward(self, x):
            return self.layers(x)

    class Counts(Plain):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.unused(self.layers(x))

    with pytest.raises(UserError, match="nothing in this network is random: no dropout with p > 0 was called"):
        samples_of(sampler_of(Plain()), images, plan, 512)
    with pytest.raises(UserError, match="the passes change calls, a buffer of the network"):
        samples_of(sampler_of(Counts()), images, plan, 512)
    with pytest.raises(UserError, match="no dropout with a rate above 0"):
        sampler_of(flat)
    with pytest.raises(UserError, match="masks: function needs"):
        samples_of(sampler_of(Everything()), images, Plan(3, "function", 5, (0, "test")), 512)
