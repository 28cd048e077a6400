"""Other people's methods: each loss and score against an independent computation."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Dirichlet as TorchDirichlet
from torch.distributions import kl_divergence

from configs.errors import UserError
from configs.schema import StudentSettings
from methods import STUDENTS, student_method, teacher_method
from methods.interface import Context
from methods.student import Student
from methods.students import diagonal_gaussian, drop, edfm, end, endd, endd_proxy, gauss, hydra, hydra_plus
from methods.students.diagonal_gaussian import centred
from methods.teachers import ddu, deterministic, ensemble
from models.architecture import Architecture, HeadsLinear
from models.networks import build
from models.spectral_norm import normalize
from models.vgg import vgg
from training.compute import choose
from uncertainty.mc_dropout import Plan
from uncertainty.samples import Samples, statistics
from uncertainty.temperature import fit_temperature, tempered

N, M, C = 6, 5, 4


@pytest.fixture
def logits() -> torch.Tensor:
    return 2 * torch.randn(N, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def targets() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    log_probs = (2 * torch.randn(N, M, C, generator=generator)).log_softmax(-1)
    return statistics(log_probs) | {"log_probs": log_probs, "labels": torch.eye(C)[torch.arange(N) % C]}


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return scipy.stats.entropy(p, q, axis=-1)


# Losses.


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_end_is_the_divergence_from_the_mean_of_the_samples(logits, targets, temperature):
    found = end.loss(end.head(logits, None, None), targets, Context({}, options=end.Options(temperature)))
    mean = scipy.special.softmax(targets["log_probs"].numpy() / temperature, -1).mean(1)
    student = scipy.special.softmax(logits.numpy() / temperature, -1)
    assert found.item() == pytest.approx(temperature**2 * kl(mean, student).mean(), rel=1e-5)


@pytest.mark.parametrize("progress, temperature", [(0.0, 10.0), (0.25, 5.5), (0.5, 1.0), (1.0, 1.0)])
def test_endd_is_the_likelihood_of_a_dirichlet_annealed(logits, targets, progress, temperature):
    found = endd.loss(endd.head(logits, None, None), targets, Context({}, progress, endd.Options()))
    probs = 0.9999 * (targets["log_probs"].double() / temperature).softmax(-1) + 0.0001 / C
    expected = -TorchDirichlet((logits / temperature).exp().unsqueeze(1)).log_prob(probs).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_the_proxy_loss_is_the_authors_whatever_the_prediction_reads(logits, targets, offset):
    mean, beta_0 = endd_proxy.proxy(targets["log_probs"].double())
    beta = TorchDirichlet(beta_0.unsqueeze(1) * mean + 1)
    options = endd_proxy.Options(offset)

    def both(logits):
        alpha = TorchDirichlet(logits.exp() + 1)
        to_proxy, to_uniform = (
            kl_divergence(alpha, other) for other in (beta, TorchDirichlet(torch.ones(N, C).double()))
        )
        exact = (to_proxy - to_uniform) / beta_0 + to_uniform / beta.concentration.sum(
            -1
        )  # the first is the cross-entropy
        return endd_proxy.loss(
            endd_proxy.head(logits, None, options), targets, Context({}, options=options)
        ), exact.mean()

    moved = torch.randn(N, C, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    first, second = both(logits), both(logits + moved)
    assert (first[0] - second[0]).item() == pytest.approx((first[1] - second[1]).item(), rel=1e-8)  # up to a constant


def test_the_proxy_classifies_by_the_softmax_of_the_logits(logits):
    torch.testing.assert_close(endd_proxy.head(logits, None, endd_proxy.Options()).mean, logits.softmax(-1))


def test_the_proxy_is_near_the_dirichlet_that_the_samples_are_of():
    alpha = torch.tensor([[30.0, 60.0, 10.0]])  # Stirling's formula is good where concentrations are large
    log_probs = TorchDirichlet(alpha).sample((4000,)).log().transpose(0, 1)
    mean, beta_0 = endd_proxy.proxy(log_probs)
    assert (beta_0.unsqueeze(1) * mean).numpy() == pytest.approx(alpha.numpy(), rel=0.1)


def test_hydra_matches_head_by_head(targets):
    heads = 2 * torch.randn(N, M, C)
    found = hydra.loss(hydra.head(heads, None, None), targets, Context({}))
    expected = kl(targets["log_probs"].exp().numpy(), heads.softmax(-1).numpy()).mean()
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert hydra.loss(Samples(targets["log_probs"]), targets, Context({})).item() == pytest.approx(0, abs=1e-6)
    with pytest.raises(UserError, match="3 heads for 5 functions"):
        hydra.loss(Samples(targets["log_probs"][:, :3]), targets, Context({}))


@pytest.mark.parametrize("heads, functions", [(2, 3), (5, 5), (5, 2)])
def test_individuality_pairs_any_number_of_heads_with_any_of_functions(heads, functions):
    student, teacher = torch.randn(N, heads, C).log_softmax(-1), torch.randn(N, functions, C).log_softmax(-1)
    pairs = [(i % functions, i % heads) for i in range(max(heads, functions))]
    soft = [
        (scipy.special.softmax(teacher[:, m].numpy() / 3, -1), scipy.special.softmax(student[:, s].numpy() / 3, -1))
        for m, s in pairs
    ]
    expected = 9 * np.mean([kl(p, q).mean() for p, q in soft])
    assert hydra_plus.individuality(student, teacher, 3.0).item() == pytest.approx(expected, rel=1e-4)


def test_diversity_is_one_for_equal_heads_and_zero_for_orthogonal_ones():
    assert hydra_plus.diversity(torch.randn(1, 12).expand(5, 12)).item() == pytest.approx(1)
    assert hydra_plus.diversity(torch.eye(6)[:4]).item() == pytest.approx(0, abs=1e-7)
    network = vgg(Architecture("vgg5", 0.125, 8, 1, C, heads=3))
    assert hydra_plus.weights(network).shape == (3, 32 * 32 + C * 32)


def test_aggregation_stands_probabilities_that_underflow():
    certain = torch.tensor([[[0.0, -200.0, -150.0]]])
    assert hydra_plus.aggregation(certain, certain).item() == 0


def test_the_other_losses_of_hydra_plus(targets):
    heads = torch.randn(N, 3, C).log_softmax(-1)
    labels = targets["labels"].argmax(1)
    expected = np.mean([F.nll_loss(heads[:, s], labels).item() for s in range(3)])
    assert hydra_plus.correctness(heads, targets["labels"]).item() == pytest.approx(expected, rel=1e-5)
    expected = kl(targets["mean"].numpy(), heads.exp().mean(1).numpy()).mean()
    assert hydra_plus.aggregation(heads, targets["log_probs"]).item() == pytest.approx(expected, rel=1e-4)
    network = nn.Sequential(HeadsLinear(3, 2, C))
    network[0].weight.data.normal_()
    off = dict.fromkeys(("correctness", "aggregation", "individuality", "diversity"), 0.0)
    for name, part in (
        ("correctness", hydra_plus.correctness(heads, targets["labels"])),
        ("aggregation", hydra_plus.aggregation(heads, targets["log_probs"])),
        ("individuality", hydra_plus.individuality(heads, targets["log_probs"], 8.0)),
        ("diversity", hydra_plus.diversity(network[0].weight.flatten(1))),
    ):
        context = Context({}, 0, hydra_plus.Options(**off | {name: 0.7}), network)
        assert hydra_plus.loss(Samples(heads), targets, context).item() == pytest.approx(0.7 * part.item(), rel=1e-5)


def test_drop_takes_one_random_mask_in_training_and_the_same_masks_for_every_input_later():
    linear = nn.Linear(4000, C)
    layer = drop.DropLinear(linear, 0.25, 3)
    layer.load_state_dict(linear.state_dict(), strict=False)
    assert layer.masks.unique().tolist() == pytest.approx([0, 4 / 3]) and layer.masks.mean().item() == pytest.approx(
        1, abs=0.05
    )
    x = torch.rand(2, 4000)
    for m in range(3):
        torch.testing.assert_close(layer.eval()(x)[:, m], linear(x * layer.masks[m]))
    first, second = layer.train()(x), layer(x)
    assert first.shape == (2, 1, C) and not torch.equal(first, second)


def test_the_loss_of_drop_is_the_softened_divergence_and_the_cross_entropy(targets):
    drawn = torch.randn(N, 1, C).log_softmax(-1)
    found = drop.loss(
        Samples(drawn), targets, Context({}, options=drop.Options(correctness=0.3, individuality=0.7, temperature=2.0))
    )
    soft = [scipy.special.softmax(z.numpy() / 2, -1) for z in (targets["log_probs"], drawn)]
    labels = F.nll_loss(drawn[:, 0], targets["labels"].argmax(1)).item()
    assert found.item() == pytest.approx(0.3 * labels + 0.7 * 4 * kl(*np.broadcast_arrays(*soft)).mean(), rel=1e-4)


def test_gauss_is_a_layer_of_random_weights():
    torch.manual_seed(0)
    layer = gauss.GaussLinear(nn.Linear(3, C))
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 3)
    distribution = gauss.head(layer(x), None, None)
    generator = np.random.default_rng(0)
    weight, log_variance, bias, bias_log_variance = (
        p.detach().numpy() for p in (layer.weight, layer.log_variance, layer.bias, layer.bias_log_variance)
    )
    weights = generator.normal(weight, np.exp(log_variance / 2), (200_000, C, 3))
    z = np.einsum("ni,tci->ntc", x.numpy(), weights) + generator.normal(
        bias, np.exp(bias_log_variance / 2), (200_000, C)
    )
    assert distribution.loc.detach().numpy() == pytest.approx(z.mean(1), abs=0.03)
    for n in range(2):
        covariance = (distribution.factor[n] @ distribution.factor[n].T).detach().numpy()
        assert covariance == pytest.approx(np.cov(z[n].T), rel=0.03, abs=0.1)
    prior = torch.distributions.Normal(0, 1)
    pairs = ((layer.weight, layer.log_variance), (layer.bias, layer.bias_log_variance))
    exact = sum(kl_divergence(torch.distributions.Normal(w, (s / 2).exp()), prior).sum() for w, s in pairs)
    assert layer.divergence().item() == pytest.approx(exact.item(), rel=1e-5)


def test_flow_matching_learns_a_gaussian_whose_spread_depends_on_the_input():
    torch.manual_seed(0)
    flow = edfm.Flow(nn.Linear(3, C), edfm.Options(units=128, steps=20, draws=400)).train()
    x = torch.randn(64, 3)
    mean, spread = centred(x @ torch.randn(3, C)), 0.5 * x[:, :1].abs()
    optimizer = torch.optim.Adam(flow.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 1500)
    for _ in range(1500):
        assert flow(x).shape == (64, 1, C)
        loss = flow.matching(centred(mean.unsqueeze(1) + spread.unsqueeze(1) * torch.randn(64, 16, C)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        drawn = flow.eval()(x)
    assert drawn.shape == (64, 400, C) and (drawn.mean(1) - mean).abs().mean() < 0.05
    found, expected = (
        drawn.std(1).mean(1),
        spread.squeeze(1) * ((C - 1) / C) ** 0.5,
    )  # centring takes a C-th of the variance
    assert torch.corrcoef(torch.stack([found, expected]))[0, 1] > 0.98 and found.mean() == pytest.approx(
        expected.mean().item(), rel=0.1
    )


def test_the_diagonal_gaussian_is_the_likelihood_of_centred_logits(logits, targets):
    numbers = torch.randn(N, C, dtype=torch.float64)
    found = diagonal_gaussian.loss(diagonal_gaussian.head(logits, numbers, None), targets, Context({}))
    z = targets["log_probs"].double().numpy()
    z = z - z.mean(-1, keepdims=True)
    loc, sigma = logits.numpy() - logits.numpy().mean(-1, keepdims=True), np.log1p(np.exp(numbers.numpy())) + 1e-3
    expected = -scipy.stats.norm.logpdf(z, loc[:, None], sigma[:, None]).sum(-1).mean()
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("method", ["end", "endd", "endd_proxy", "hydra", "hydra_plus", "diagonal_gaussian"])
def test_gradients_are_those_of_finite_differences(method, targets):
    chosen, settings = STUDENTS[method], Settings(method=method)
    targets = {name: value.double() for name, value in targets.items()}
    options = chosen.read_options(settings)
    heads, numbers = chosen.heads(options), chosen.head_parameters(C, options)
    logits = torch.randn(*((N, C) if heads == 1 else (N, heads, C)), dtype=torch.float64, requires_grad=True)
    rest = torch.randn(N, numbers, dtype=torch.float64, requires_grad=True)
    network = nn.Sequential(HeadsLinear(heads, 2, C))
    nn.init.normal_(network[0].weight)

    def loss(logits, rest):
        return chosen.loss(chosen.head(logits, rest, options), targets, Context({}, 0.2, options, network))

    # `samples` gives float32, as the cache does, so the loss itself is exact to that only.
    assert torch.autograd.gradcheck(loss, (logits, rest), eps=1e-3, atol=1e-2, rtol=1e-2)


def test_options_are_checked_by_name():
    assert student_method("hydra").read_options(Settings(method="hydra", options={"heads": 3})).heads == 3
    with pytest.raises(UserError, match="student.options of hydra: unknown key head, did you mean heads?"):
        student_method("hydra").read_options(Settings(method="hydra", options={"head": 3}))
    for options, said in (
        ({"head": "gelu"}, "head: gelu is not one of softplus"),
        ({"rank": -1}, "rank: -1 is not a whole"),
        ({"mean_weight": float("inf")}, "mean_weight: inf is not a number above 0"),
        ({"matched": ["mean"]}, "matched: mean is not a list, each one of total_v"),
    ):
        with pytest.raises(UserError, match=f"student.options of dirichlet: {said}"):
            student_method("dirichlet").read_options(Settings(options=options))
    with pytest.raises(UserError, match="student.method: hidra is not one of dirichlet"):
        student_method("hidra")
    with pytest.raises(UserError, match="teacher.method: dropout is not one of deterministic"):
        teacher_method("dropout")


# Networks of several heads.


def test_heads_are_linear_layers_beside_each_other():
    heads = HeadsLinear(3, 5, 4)
    nn.init.normal_(heads.weight)
    nn.init.normal_(heads.bias)
    x = torch.randn(7, 5)
    for m in range(3):
        torch.testing.assert_close(heads(x)[:, m], F.linear(x, heads.weight[m], heads.bias[m]))
    y = torch.randn(7, 3, 5)
    torch.testing.assert_close(heads(y)[:, 1], F.linear(y[:, 1], heads.weight[1], heads.bias[1]))


def test_every_head_starts_as_the_teachers():
    teacher = vgg(Architecture("vgg5", 0.25, 8, 1, C, 0.1, 0.5)).eval()
    student = Student(Architecture("vgg5", 0.25, 8, 1, C, heads=3), Settings(method="hydra"), list("abcd"))
    assert student.init_from(teacher) == len(teacher.state_dict()) and student.fixed_norm
    images = torch.randint(0, 256, (7, 8, 8, 1), dtype=torch.uint8)
    expected = teacher(images).log_softmax(-1).unsqueeze(1).expand(-1, 3, -1)
    torch.testing.assert_close(student.eval()(images).log_probs, expected, rtol=1e-4, atol=1e-5)


# Scores.


def test_energy_is_minus_logsumexp(logits):
    assert deterministic.energy(logits).numpy() == pytest.approx(-scipy.special.logsumexp(logits.numpy(), 1))


@pytest.mark.parametrize("name", ["vgg5", "vgg7", "resnet18", "mlp"])
def test_the_density_is_of_pooled_features_and_the_classes_are_the_networks_own(name):
    network = build(Architecture(name, 0.125, 32, 3, C, 0.1, 0.2 if name.startswith("vgg") else 0.0)).eval()
    body, rest = ddu.pooled(network)
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    torch.testing.assert_close(rest(body(images)), network(images))
    linear = [layer for layer in body.modules() if isinstance(layer, nn.Linear)]
    assert body(images).ndim == 2 and (bool(linear) == (name == "mlp"))


@pytest.mark.parametrize("rank", [5, 3])
def test_the_density_of_features_is_that_of_a_mixture_of_gaussians(rank):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    basis = torch.randn(rank, 5, generator=generator)
    features = torch.randn(300, rank, generator=generator) @ basis + 3 * torch.randn(3, 5, generator=generator)[labels]
    found = ddu.log_density(features[:20], *ddu.fit(features, labels))
    if rank < 5:  # singular covariances: the jitter has to make them densities
        assert found.isfinite().all()
        return
    z = features.double().numpy()
    parts = []
    for c in range(3):
        own = z[labels.numpy() == c]
        parts.append(scipy.stats.multivariate_normal(own.mean(0), np.cov(own.T)).logpdf(z[:20]) + np.log(1 / 3))
    assert found.numpy() == pytest.approx(scipy.special.logsumexp(parts, axis=0), rel=1e-6)


@pytest.mark.parametrize("stride, kernel, size", [(1, 3, 6), (2, 3, 6), (2, 1, 6), (1, 3, 5)])
@pytest.mark.parametrize("coefficient", [0.5, 3.0])
def test_the_largest_singular_value_of_a_normalized_convolution(stride, kernel, size, coefficient):
    torch.manual_seed(0)
    convolution = nn.Conv2d(2, 4, kernel, stride, kernel // 2, bias=False)
    nn.init.normal_(convolution.weight)
    basis = torch.eye(2 * size * size).view(-1, 2, size, size)
    before = torch.linalg.matrix_norm(convolution(basis).flatten(1), 2).item()
    network = nn.Sequential(convolution, nn.Identity())  # the last layer is not normalized
    normalize(network, coefficient, torch.zeros(1, 2, size, size))
    for _ in range(1000):  # a power iteration is slow where the second singular value is near the first
        network.train()(basis[:1])
    after = torch.linalg.matrix_norm(network.eval()(basis).flatten(1), 2).item()
    assert after == pytest.approx(min(before, coefficient), rel=1e-3)


def test_a_linear_layer_is_normalized_as_a_matrix():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    last = network[1].weight.clone()
    normalize(network, 0.1, torch.zeros(1, 6))
    for _ in range(1000):
        network.train()(torch.zeros(1, 6))
    assert torch.linalg.matrix_norm(network.eval()[0].weight, 2).item() == pytest.approx(0.1, rel=1e-3)
    assert torch.equal(network[1].weight, last)


@pytest.mark.parametrize("network", ["vgg11", "resnet18", "resnet50", "wide_resnet28_10"])
def test_networks_with_a_spectral_norm_train_and_load(network):
    torch.manual_seed(0)
    architecture = Architecture(network, 0.0625, 28 if "resnet" in network else 32, 3, 4, spectral_norm=3.0)
    one, other = build(architecture), build(architecture)
    images = torch.randint(0, 256, (4, architecture.size, architecture.size, 3), dtype=torch.uint8)
    one.train()(images).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in one.parameters())
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(one.eval()(images), other.eval()(images))
    assert any(isinstance(layer, nn.LeakyReLU) for layer in one.modules()) == ("resnet" in network)


@pytest.mark.parametrize(
    "network, parameters", [("resnet18", 11_173_962), ("resnet50", 23_520_842), ("wide_resnet28_10", 36_479_194)]
)
def test_residual_networks_have_their_published_size(network, parameters):
    with torch.device("meta"):
        layers = build(Architecture(network, 1.0, 32, 3, 10))
    assert sum(p.numel() for p in layers.parameters()) == parameters


# Ensembles.


def test_an_ensembles_members_are_its_samples_and_the_other_half_its_reference():
    networks = [nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval() for _ in range(4)]
    images = torch.randn(10, 2, 2, 1)

    def draw(sampler):
        plan = Plan(2, "function", 4, (0, "train", "toy"))
        parts = list(sampler(lambda i: images[i], plan.groups(10), plan))
        return torch.cat([p for *_, p in parts])[torch.cat([i for _, i, _ in parts]).argsort()]

    for sampler, own in zip(ensemble.samplers(networks), (networks[:2], networks[2:])):
        torch.testing.assert_close(draw(sampler), torch.stack([network(images).log_softmax(-1) for network in own], 1))
    with pytest.raises(UserError, match="an ensemble of 2 gives 2 samples, not 3"):
        plan = Plan(3, "function", 4, (0, "train", "toy"))
        next(ensemble.sample(networks[:2], lambda i: images[i], plan.groups(10), plan))


def test_laplace_of_the_last_layer(tiny):
    pytest.importorskip("laplace")
    from data.dataset import Dataset

    torch.manual_seed(0)
    images = torch.randint(0, 256, (200, 1, 1, 2), dtype=torch.uint8)
    labels = (images[:, 0, 0, 0] > 127).long()
    network = build(Architecture("mlp", 0.25, 1, 2, 2))
    network.normalize.fit([images])
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    train = Dataset("toy", images, labels, [""] * 200, ["a", "b"])
    distribution = (
        teacher_method("laplace")
        .predictor([network.eval()], train, tiny, choose("cpu", "float32"))(images, "toy")
        .distribution
    )
    assert (distribution.predicted == labels).float().mean() > 0.95
    border = (images[:, 0, 0, 0].float() - 127.5).abs() < 15
    assert distribution.total_variance[border].mean() > 2 * distribution.total_variance[~border].mean()


# Temperature.


def test_a_temperature_is_found_and_never_lowers_the_likelihood():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, C, generator=generator)
    labels = torch.distributions.Categorical(logits=logits / 2.5).sample()
    found = fit_temperature(logits.softmax(-1), labels)
    assert found == pytest.approx(2.5, rel=0.1)
    probs = logits.softmax(-1)
    assert F.nll_loss(tempered(probs, found).log(), labels) < F.nll_loss(probs.log(), labels)
    torch.testing.assert_close(tempered(probs, 2.5), (logits / 2.5).softmax(-1))
    for scale in (1e-4, 1e3):  # nearly uniform, and nearly certain
        for labels in (torch.randint(C, (50,), generator=generator), logits[:50].argmax(1)):
            probs = (scale * logits[:50]).softmax(-1)
            before, after = (
                F.nll_loss(p.clamp_min(1e-12).log(), labels)
                for p in (probs, tempered(probs, fit_temperature(probs, labels)))
            )
            assert after <= before + 1e-6
