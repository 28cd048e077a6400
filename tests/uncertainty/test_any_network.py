"""MC-dropout of any network, against a loop that is written here."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from configs.errors import UserError
from uncertainty.any_network import PlainLoop, sampler_of
from uncertainty.mc_dropout import Plan, samples_of

T, N = 250, 6


class Functional(nn.Module):
    """Dropout by functions and by layers, one of them in two places, beside batch norm."""

    def __init__(self):
        super().__init__()
        self.body, self.norm, self.last = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 4)
        self.channels, self.units = nn.Dropout2d(0.3), nn.Dropout(0.2)

    def forward(self, x):
        x = self.units(self.channels(self.norm(self.body(x)).relu()))
        return 5 * self.last(self.units(F.dropout(x.mean((2, 3)), 0.4, self.training)))


class Rows(nn.Module):
    """An image's rows as a sequence."""

    def __init__(self, body):
        super().__init__()
        self.body, self.last = body, nn.Linear(24, 4)

    def forward(self, x):
        x = self.body(x.permute(0, 2, 1, 3).flatten(2))
        return 5 * self.last((x[0] if isinstance(x, tuple) else x).mean(1))


class Counting(Functional):
    """Its passes depend on each other."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls


KINDS = {
    "functional": Functional,
    "LSTM": lambda: Rows(nn.LSTM(24, 24, 2, dropout=0.5, batch_first=True)),
    "attention": lambda: Rows(nn.TransformerEncoderLayer(24, 4, 32, dropout=0.4, batch_first=True)),
}


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_samples_have_the_moments_of_a_plain_loop(kind):
    torch.manual_seed(0)
    network, images = KINDS[kind]().eval(), torch.randn(N, 3, 8, 8)
    ours = samples_of(sampler_of(network), images, Plan(T, "independent", 3, (0, "test"))).log_probs.exp()
    for module in network.modules():
        module.training = not isinstance(module, nn.BatchNorm2d)
    theirs = torch.stack([network(images).softmax(1) for _ in range(T)], 1)
    error = ((ours.var(1) + theirs.var(1)) / T).sqrt().clamp_min(1e-6)
    assert ((ours.mean(1) - theirs.mean(1)).abs() / error).max() < 5
    variance = theirs.var(1).sum().item()
    assert ours.var(1).sum().item() == pytest.approx(variance, rel=0.15) and variance > 0.001


def test_samples_depend_on_the_plan_alone():
    network, images = Functional().eval(), torch.randn(N, 3, 8, 8)
    plan, state = Plan(3, "grouped", 5, (0, "test")), torch.random.get_rng_state()
    first, again = (samples_of(PlainLoop(network), images, plan).log_probs for _ in range(2))
    assert torch.equal(first, again) and torch.equal(torch.random.get_rng_state(), state)
    (_, indices, alone), *_ = PlainLoop(network)(lambda i: images[i], plan.groups(N)[1:2], plan)  # as after a cut
    assert torch.equal(alone, first[indices]) and not network.training and not network.norm.training


class Unused(Functional):
    def forward(self, x):
        return self.last(self.body(x).mean((2, 3)))


@pytest.mark.parametrize(
    "kind, masks, said",
    [
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), "grouped", "no dropout with a rate above 0"),
        (Functional, "function", "masks: function needs"),
        (Unused, "grouped", "no dropout with p > 0 was called"),
        (Counting, "grouped", "the passes change calls"),
    ],
)
def test_what_cannot_be_sampled_is_refused(kind, masks, said):
    with pytest.raises(UserError, match=said):
        samples_of(sampler_of(kind().eval()), torch.randn(N, 3, 8, 8), Plan(3, masks, 5, (0, "test")))
