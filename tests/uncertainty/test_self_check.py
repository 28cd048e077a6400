"""Networks from outside that would be sampled wrongly: each is refused in a line, or sampled as its definition says."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune

from configs.errors import UserError
from methods.teacher import Teacher
from uncertainty.any_network import PlainLoop, sampler_of
from uncertainty.mc_dropout import Plan, Sampler, samples_of

IMAGES = torch.randint(0, 256, (4, 8, 8, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
PASSES = 1504  # whole strata


class Net(nn.Sequential):
    """A hidden layer, dropout, and logits."""

    def __init__(self, p: float = 0.3, last: nn.Module | None = None):
        torch.manual_seed(0)
        super().__init__(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(p), last or nn.Linear(32, 3))


class AlwaysOn(Net):
    def forward(self, x):
        return super().forward(F.dropout(x, 0.5))


class OfProbabilities(Net):
    def forward(self, x):
        return super().forward(x).softmax(1)


class HandWrittenNorm(nn.Module):
    """Batch statistics in training, and running ones, which were counted before, at test time."""

    def forward(self, x):
        return (x - x.mean(0)) / (x.std(0) + 1) if self.training else x / 2


class Pair(Net):
    def forward(self, x):
        return super().forward(x), x


class Auxiliary(Net):
    def forward(self, x):
        logits = super().forward(x)
        return (logits, 2 * logits) if self.training else logits


def teacher_of(module: nn.Module) -> Teacher:
    return Teacher.from_module(module.eval(), [0.0], [1.0], 8, list("abc"), channels=1)


@pytest.mark.parametrize("module, says", [
    (AlwaysOn(), "random without dropout too.*training=self.training"), (OfProbabilities(), "leave out the softmax"),
    (Net(1.0), "dropout of rate 1"),
    (nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Dropout(0.2),
                   nn.Linear(8, 3)), "depend on the other images of its batch"),
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_what_cannot_be_a_teacher_is_refused_in_a_line(module, says):
    with pytest.raises(UserError, match=says) as found:
        teacher_of(module)
    assert "\n" not in str(found.value)


def test_logits_that_start_at_zero_are_no_probabilities():
    """As those of an untrained vision transformer."""
    untrained = Net()
    nn.init.zeros_(untrained[-1].weight)
    nn.init.zeros_(untrained[-1].bias)
    assert not teacher_of(untrained).network(IMAGES).any()


SHARED = nn.Linear(32, 32)


@pytest.mark.parametrize("module, sampler", [
    (nn.Sequential(*Net()), Sampler),
    *((nn.Sequential(*Net(last=last)), PlainLoop) for last in (
        parametrizations.weight_norm(nn.Linear(32, 3)), parametrizations.spectral_norm(nn.Linear(32, 3)),
        nn.utils.spectral_norm(nn.Linear(32, 3)), prune.l1_unstructured(nn.Linear(32, 3), "weight", 0.3),
    )),
    (nn.Sequential(nn.Flatten(), nn.Linear(64, 32), SHARED, nn.ReLU(), nn.Dropout(0.3), SHARED, nn.Linear(32, 3)),
     PlainLoop),
    (nn.Sequential(Net(), nn.Dropout(0.1)), PlainLoop), (nn.Sequential(HandWrittenNorm(), Net()), PlainLoop),
    (Pair(), PlainLoop), (Auxiliary(), PlainLoop),
])  # fmt: skip
@pytest.mark.parametrize("blocks", [0, 2])
def test_samples_have_the_variance_of_the_definition(module, sampler, blocks):
    """Dropout modules on, all else off, one pass after another."""
    chosen = sampler_of(teacher_of(module).network)
    assert isinstance(chosen, sampler)
    ours = samples_of(chosen, IMAGES, Plan(PASSES, "independent", 4, (0, "test"), blocks))
    for part in module.eval().modules():
        part.training = isinstance(part, nn.Dropout)
    x = (IMAGES.float() / 255).permute(0, 3, 1, 2)
    with torch.no_grad():
        outputs = [module(x) for _ in range(PASSES)]
    probs = torch.stack([output[0] if isinstance(output, tuple) else output for output in outputs]).softmax(-1)
    assert (ours.total_variance / probs.var(0).sum(-1)).mean().item() == pytest.approx(1, abs=0.15)
    assert (ours.mean - probs.mean(0)).abs().max() < 0.03
