"""The sampler against dropout as torch does it, and its modes against each other."""

import pytest
import torch
from torch import nn

import uncertainty.mc_dropout
from models.architecture import Architecture
from models.networks import build
from uncertainty.any_network import PlainLoop
from uncertainty.mc_dropout import Plan, Sampler, keep_mask, samples_of, stratified
from uncertainty.samples import STATISTICS, Samples, statistics

COUNT = 12


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (COUNT, 8, 8, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=["vgg5"])
def network(request, images) -> nn.Sequential:
    torch.manual_seed(0)
    network = build(
        Architecture(request.param, 0.125, size=8, channels=1, outputs=4, conv_dropout=0.2, head_dropout=0.5)
    )
    network.normalize.fit([images])
    return network.eval()


def draw(network, images, masks="grouped", passes=8, group_size=4, key=(0, "train", "toy", 0)) -> torch.Tensor:
    """All samples, in the images' order."""
    log_probs = torch.empty(len(images), passes, 4)
    plan = Plan(passes, masks, group_size, key)
    for _, indices, part in Sampler(network)(lambda i: images[i], plan.groups(len(images)), plan):
        log_probs[indices] = part.log_probs
    return log_probs


@pytest.mark.parametrize("masks", ["independent", "grouped", "function"])
def test_samples_do_not_depend_on_the_batch_size(network, images, masks, monkeypatch):
    at_once = draw(network, images, masks)
    for batch_size in (9, 3):  # two passes of a group, and less than one
        monkeypatch.setattr(uncertainty.mc_dropout, "BATCH", batch_size)
        torch.testing.assert_close(at_once, draw(network, images, masks), rtol=1e-4, atol=1e-5)


def test_which_images_share_a_mask(network, images):
    same = images[:1].expand(COUNT, -1, -1, -1)  # equal inputs get equal samples exactly if they share masks
    (_, (first, second, *_)), (_, (other, *_)), *_ = Plan(8, "grouped", 4, (0, "train", "toy", 0)).groups(COUNT)
    for masks, shared in (("independent", [False, False]), ("grouped", [True, False]), ("function", [True, True])):
        log_probs = draw(network, same, masks)
        assert [torch.allclose(log_probs[first], log_probs[i], atol=1e-5) for i in (second, other)] == shared
        assert not torch.allclose(log_probs[:, 0], log_probs[:, 1], atol=1e-3)


def test_seed_role_data_set_and_view_change_the_masks_and_nothing_else_does(network, images):
    base = (0, "train", "toy", 0)
    first = draw(network, images, key=base)
    assert torch.equal(first, draw(network, images, key=base))
    for other in ((1, *base[1:]), (0, "reference-a", "toy", 0), (0, "train", "other", 0), (0, "train", "toy", 1)):
        assert not torch.allclose(first, draw(network, images, key=other), atol=1e-3), other


@pytest.mark.parametrize("network, masks, dtype", [
    ("vgg5", "independent", torch.float32), ("vgg5", "grouped", torch.bfloat16), ("vgg5", "function", torch.float32),
    ("resnet18", "grouped", torch.float32), ("mlp", "independent", torch.float32),
], indirect=["network"])  # fmt: skip
def test_every_mode_has_the_moments_of_torchs_own_dropout(network, images, masks, dtype):
    passes = 3000
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        probs = draw(network, images, masks, passes).exp()
        for layer in network.modules():
            layer.train(isinstance(layer, nn.Dropout))
        copies = images.repeat(100, 1, 1, 1)  # dropout has a mask for each
        plain = torch.cat([network(copies).float().softmax(-1).view(100, COUNT, -1) for _ in range(passes // 100)])
    mean, variance, fourth = plain.mean(0), plain.var(0), (plain - plain.mean(0)).pow(4).mean(0)
    assert variance.min() > 1e-3  # there is something to compare
    assert ((probs.mean(1) - mean).abs() < 5 * (variance * 2 / passes).sqrt()).all()
    assert ((probs.var(1) - variance).abs() < 5 * ((fourth - variance**2) * 2 / passes).sqrt()).all()


@pytest.mark.parametrize("block", [2, 8, 16])
@pytest.mark.parametrize("p", [0.05, 0.3, 0.5])
def test_each_stratified_pass_alone_is_plain_and_a_block_drops_every_unit_equally_often(block, p):
    """Over all 2^16 numbers that a unit can have."""
    words = torch.arange(-(2**15), 2**15).to(torch.int16)
    passes = [stratified(words, t * 2**16 // block) for t in range(block)]
    assert all(torch.equal(moved.sort().values, words) for moved in passes)
    dropped = torch.stack([keep_mask(moved.clone(), p) == 0 for moved in passes])
    assert (dropped.double().mean(1) - p).abs().max() <= 2**-15
    often = dropped.sum(0)
    assert often.min() >= int(p * block - 1e-3) and often.max() <= int(p * block + 1e-3) + 1


def test_nothing_with_weights_is_needed_between_two_dropouts():
    architecture = Architecture("vgg5", 0.125, 8, 1, 4, conv_dropout=[0.0, 0.0, 0.3], head_dropout=0.5)
    sampler, images = Sampler(build(architecture)), torch.randint(0, 256, (40, 8, 8, 1), dtype=torch.uint8)
    plain, blocks = (samples_of(sampler, images, Plan(128, "independent", 20, (0, "x"), b)) for b in (0, 8))
    assert (blocks.total_variance.mean() / plain.total_variance.mean()).item() == pytest.approx(1, abs=0.1)


def tiny() -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """A network with 8 droppable units, an input, and its log-probabilities [256, 3] and weights under all masks."""
    torch.manual_seed(1)
    first, second, x = nn.Linear(4, 4), nn.Linear(4, 3), torch.randn(1, 4)
    for layer in (first, second):
        layer.weight.data *= 3
    network = nn.Sequential(nn.Dropout(0.4), first, nn.ReLU(), nn.Flatten(), nn.Dropout(0.25), second).eval()
    kept = torch.cartesian_prod(*8 * [torch.tensor([0.0, 1.0])])
    rate = torch.tensor(4 * [0.6] + 4 * [0.75])  # at which a unit is kept
    hidden = first(x * (kept / rate)[:, :4]).relu()
    log_probs = second(hidden * (kept / rate)[:, 4:]).log_softmax(-1).detach()
    return network, x, log_probs, torch.where(kept > 0, rate, 1 - rate).prod(1)


@pytest.mark.parametrize("kind", [Sampler, PlainLoop])
def test_statistics_of_stratified_passes_are_unbiased_and_less_noisy(kind):
    """Against the exact values by enumeration of all masks, and against as many plain passes."""
    network, x, log_probs, weights = tiny()
    probs = log_probs.exp()
    mean = weights @ probs
    exact = {"mean_log_prob": weights @ log_probs, "mean": mean}
    exact["total_variance"] = (weights @ (probs - mean) ** 2).sum()
    exact["expected_entropy"] = -(weights @ (probs * log_probs)).sum()
    repeats, noise = 2000 if kind is Sampler else 400, {}
    for is_stratified in (True, False):
        plan = Plan(16, "independent", repeats, (0, "test"), 2 * is_stratified)
        samples = samples_of(kind(network), x.expand(repeats, 4), plan)
        assert samples.block == (1 if not is_stratified else 8 * 32 if kind is Sampler else 8)
        found = statistics(samples)
        for name in STATISTICS:
            error = found[name].std(0) / repeats**0.5
            assert ((found[name].mean(0) - exact[name]).abs() < 4.5 * error).all(), (name, is_stratified)
        noise[is_stratified] = {name: found[name].var(0).sum().item() for name in STATISTICS}
    assert noise[True]["mean"] < 0.5 * noise[False]["mean"]
    assert noise[True]["expected_entropy"] < 0.8 * noise[False]["expected_entropy"]
    assert noise[True]["total_variance"] < noise[False]["total_variance"]


def test_the_variance_of_blocks_takes_pairs_of_different_blocks():
    probs = torch.rand(5, 12, 3).softmax(-1)
    samples = Samples(probs.log(), 4)
    b = probs.view(5, 3, 4, 3).mean(2)
    pairs = sum(b[:, i] * b[:, j] for i in range(3) for j in range(3) if i != j) / 6
    torch.testing.assert_close(samples.total_variance, (probs.square().mean(1) - pairs).sum(-1), rtol=1e-3, atol=1e-6)
    with pytest.raises(ValueError, match="independent"):
        statistics(Samples(probs.log(), 12))
