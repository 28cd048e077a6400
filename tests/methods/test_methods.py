"""Other people's methods: each loss and score against an independent computation."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from conftest import random_images
from student_methods import Method, minimize, targets_of
from torch import nn
from torch.distributions import Dirichlet as TorchDirichlet
from torch.distributions import Normal, kl_divergence

import data
from configs.errors import UserError
from configs.schema import Data, TeacherSettings
from methods import student_method, teacher_method
from methods.students.diagonal_gaussian import centred
from methods.teacher import standardize
from methods.teachers import ddu, ensemble
from models.architecture import Architecture, HeadsLinear
from models.networks import build
from models.spectral_norm import normalize
from uncertainty.mc_dropout import Plan, samples_of
from uncertainty.samples import Samples
from uncertainty.temperature import fit_temperature, tempered

N, M, C = 6, 5, 4
softmax = scipy.special.softmax
PARTS = ("correctness", "aggregation", "individuality", "diversity")  # of the loss of Hydra+


@pytest.fixture
def logits() -> torch.Tensor:
    return 2 * torch.randn(N, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def targets() -> dict[str, torch.Tensor]:
    return targets_of((2 * torch.randn(N, M, C, generator=torch.Generator().manual_seed(1))).log_softmax(-1))


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return scipy.stats.entropy(p, q, axis=-1)


def loss_at(method: Method, logits: torch.Tensor, targets: dict[str, torch.Tensor], **options) -> torch.Tensor:
    return method.loss(method.distribution(logits), targets, **options)


# Losses.


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_end_is_the_divergence_from_the_mean_of_the_samples(logits, targets, temperature):
    found = loss_at(Method("end", temperature=temperature), logits, targets)
    mean = softmax(targets["log_probs"].numpy() / temperature, -1).mean(1)
    expected = temperature**2 * kl(mean, softmax(logits.numpy() / temperature, -1)).mean()
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_the_control_learns_the_labels_of_mixed_images(logits, targets):
    mixed = 0.3 * targets["labels"] + 0.7 * targets["labels"].flip(0)
    found = loss_at(Method("labels"), logits, targets | {"labels": mixed})
    assert found.item() == pytest.approx(F.cross_entropy(logits, mixed.double()).item(), rel=1e-5)


@pytest.mark.parametrize("progress, temperature", [(0.0, 10.0), (0.25, 5.5), (1.0, 1.0)])
def test_endd_is_the_likelihood_of_a_dirichlet_annealed(logits, targets, progress, temperature):
    found = loss_at(Method("endd"), logits, targets, progress=progress)
    probs = 0.9999 * (targets["log_probs"].double() / temperature).softmax(-1) + 0.0001 / C
    expected = -TorchDirichlet((logits / temperature).exp().unsqueeze(1)).log_prob(probs).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_the_proxy_loss_is_the_authors_whatever_the_prediction_reads(logits, targets, offset):
    samples, flat = targets["log_probs"].double(), TorchDirichlet(torch.ones(N, C).double())
    mean = samples.exp().mean(1)
    beta_0 = (C - 1) / (2 * (mean * (mean.log() - samples.mean(1))).sum(-1))
    beta = TorchDirichlet(beta_0.unsqueeze(1) * mean + 1)

    def exact(logits):
        alpha = TorchDirichlet(logits.exp() + 1)
        cross_entropy = (kl_divergence(alpha, beta) - kl_divergence(alpha, flat)) / beta_0
        return (cross_entropy + kl_divergence(alpha, flat) / beta.concentration.sum(-1)).mean()

    method = Method("endd_proxy", offset=offset)
    found = loss_at(method, logits, targets) - loss_at(method, logits.flip(0), targets)  # up to a constant
    assert found.item() == pytest.approx((exact(logits) - exact(logits.flip(0))).item(), rel=1e-6)
    if offset == 0:
        torch.testing.assert_close(method.distribution(logits).mean, logits.softmax(-1))


def test_hydra_matches_head_by_head(targets):
    heads, method = 2 * torch.randn(N, M, C), Method("hydra", heads=M)
    expected = kl(targets["log_probs"].exp().numpy(), heads.softmax(-1).numpy()).mean()
    assert loss_at(method, heads, targets).item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(UserError, match="3 heads for 5 functions"):
        loss_at(method, heads[:, :3], targets)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("heads", [3, 7])
def test_each_part_of_hydra_plus(targets, part, heads):
    """The individuality pairs any number of heads with any of functions."""
    network = nn.Sequential(HeadsLinear(heads, 2, C))
    nn.init.normal_(network[0].weight)
    student = torch.randn(N, heads, C).log_softmax(-1)
    method = Method("hydra_plus", heads=heads, temperature=3.0, **dict.fromkeys(PARTS, 0.0) | {part: 0.7})
    p, q = targets["log_probs"].numpy(), student.numpy()
    own, theirs = np.arange(max(heads, M)) % heads, np.arange(max(heads, M)) % M
    weights = F.normalize(network[0].weight.detach().flatten(1))
    expected = {
        "correctness": -q[np.arange(N), :, targets["labels"].argmax(1)].mean(),
        "aggregation": kl(np.exp(p).mean(1), np.exp(q).mean(1)).mean(),
        "individuality": 9 * kl(softmax(p[:, theirs] / 3, -1), softmax(q[:, own] / 3, -1)).mean(),
        "diversity": (weights @ weights.T)[~torch.eye(heads, dtype=bool)].mean().item(),
    }
    found = method.loss(Samples(student), targets, network).item()
    assert found == pytest.approx(0.7 * expected[part], rel=1e-4, abs=1e-6)


def test_gauss_is_a_layer_of_random_weights():
    torch.manual_seed(0)
    method = Method("gauss")
    layer = method.last_layer(nn.Linear(3, C))
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 3)
    distribution = method.distribution(layer(x))
    weight = Normal(layer.weight, (layer.log_variance / 2).exp())
    bias = Normal(layer.bias, (layer.bias_log_variance / 2).exp())
    z = torch.einsum("ni,tci->ntc", x, weight.sample((200_000,))) + bias.sample((2, 200_000))
    torch.testing.assert_close(distribution.loc, z.mean(1), atol=0.03, rtol=0)
    covariance = torch.stack([drawn.T.cov() for drawn in z])
    torch.testing.assert_close(distribution.factor @ distribution.factor.mT, covariance, rtol=0.03, atol=0.1)
    exact = sum(kl_divergence(of, Normal(0, 1)).sum() for of in (weight, bias))
    assert layer.divergence().item() == pytest.approx(exact.item(), rel=1e-5)


def test_flow_matching_learns_a_gaussian_whose_spread_depends_on_the_input():
    torch.manual_seed(0)
    flow = Method("edfm", units=128, steps=20, draws=400).last_layer(nn.Linear(3, C)).train()
    x = torch.randn(64, 3)
    mean, spread = centred(x @ torch.randn(3, C)), 0.5 * x[:, :1].abs()

    def loss() -> torch.Tensor:
        flow(x)
        return flow.matching(centred(mean.unsqueeze(1) + spread.unsqueeze(1) * torch.randn(64, 16, C)))

    minimize(loss, flow.parameters(), 1e-2, 800)
    with torch.no_grad():
        drawn = flow.eval()(x)
    assert drawn.shape == (64, 400, C) and (drawn.mean(1) - mean).abs().mean() < 0.05
    found = drawn.std(1).mean(1)
    expected = spread.squeeze(1) * ((C - 1) / C) ** 0.5  # centring takes a C-th of the variance
    assert torch.corrcoef(torch.stack([found, expected]))[0, 1] > 0.98
    assert found.mean().item() == pytest.approx(expected.mean().item(), rel=0.1)


@pytest.mark.parametrize("name, options", [("diagonal_gaussian", {}), ("dlf", {"rank": 1})])
def test_a_likelihood_of_logits_is_largest_at_the_gaussian_that_the_samples_are_of(name, options):
    """Of three classes: to centre their logits takes a third of the noise's variance."""
    method, passes, classes = Method(name, **options), 4000, 3
    numbers = torch.zeros(8, method.perceptron_outputs(classes))
    numbers[:, :classes] = 0.5  # σ alone
    targets = targets_of(method.distribution(torch.zeros(8, classes), numbers).sample(passes).log())

    def loss(factor: float) -> float:
        changed = numbers.clone()
        changed[:, :classes] = (factor * (F.softplus(numbers[:, :classes]) + 1e-3) - 1e-3).expm1().log()
        return method.loss(method.distribution(torch.zeros(8, classes), changed), targets).item()

    below, at, above = (loss(factor) for factor in (0.95, 1.0, 1.05))
    assert at < below and at < above


def test_the_factor_model_is_the_likelihood_of_whole_functions(logits, targets):
    numbers, method = torch.randn(N, 4 * C, dtype=torch.float64), Method("dlf", rank=3)
    factor = numbers[:, C:].view(N, 3, C)
    z, loc, factor = ((x - x.mean(-1, keepdim=True)).numpy() for x in (targets["log_probs"].double(), logits, factor))
    factor, scale = factor.transpose(0, 2, 1).reshape(N * C, 3), np.log1p(np.exp(numbers[:, :C].numpy())).ravel() + 1e-3
    gaussian = scipy.stats.multivariate_normal(loc.ravel(), factor @ factor.T + np.diag((1 - 1 / C) * scale**2))
    expected = -gaussian.logpdf(z.transpose(1, 0, 2).reshape(-1, N * C)).mean() / N
    assert method.loss(method.distribution(logits, numbers), targets).item() == pytest.approx(expected, rel=1e-4)


def test_the_factor_models_likelihood_of_its_own_functions_is_not_rounded_to_bfloat16(logits):
    numbers, method = torch.randn(N, 4 * C), Method("dlf", rank=3)
    numbers[:, :C] = -2.0  # σ = 0.13
    student = method.distribution(logits.float(), numbers)
    z = student.loc + (student.factor @ torch.randn(M, 1, 3, 1)).squeeze(-1)
    targets = targets_of((z + student.scale * torch.randn(M, N, C)).log_softmax(-1).transpose(0, 1))
    with torch.autocast("cpu", torch.bfloat16):
        found = method.loss(student, targets).item()
    assert found == pytest.approx(method.loss(student, targets).item(), rel=0.01)


def test_options_are_checked_by_name():
    assert Method("hydra", heads=3).heads == 3
    with pytest.raises(UserError, match="student.options of hydra: .*unknown key head, did you mean heads"):
        Method("hydra", head=3)
    for name, value in {"head": "gelu", "mean_weight": float("inf"), "matched": ["mean"]}.items():
        with pytest.raises(UserError, match=f"student.options of dirichlet: .*{name}"):
            Method("dirichlet", **{name: value})
    for kind, get in (("student", student_method), ("teacher", teacher_method)):
        with pytest.raises(UserError, match=f"{kind}.method: hidra is not one of "):
            get("hidra")


# Networks.


@pytest.mark.parametrize("rank", [5, 3])
def test_the_density_of_features_is_that_of_a_mixture_of_gaussians(rank):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    basis = torch.randn(rank, 5, generator=generator)
    features = torch.randn(300, rank, generator=generator) @ basis + 3 * torch.randn(3, 5, generator=generator)[labels]
    found = ddu.log_density(ddu.fit(features, labels), features[:20])
    if rank < 5:  # singular covariances: the jitter has to make them densities
        assert found.isfinite().all()
        return
    z = features.double().numpy()
    parts = [scipy.stats.multivariate_normal(z[c::3].mean(0), np.cov(z[c::3].T)).logpdf(z[:20]) for c in range(3)]
    assert found.numpy() == pytest.approx(scipy.special.logsumexp(parts, axis=0) - np.log(3), rel=1e-6)
    with pytest.raises(UserError, match="two training images of each class"):
        ddu.fit(features[:4], labels[:4])


@pytest.mark.parametrize("stride, kernel", [(1, 3), (2, 3), (2, 1)])
@pytest.mark.parametrize("coefficient", [0.5, 3.0])
def test_the_largest_singular_value_of_a_normalized_convolution(stride, kernel, coefficient):
    torch.manual_seed(0)
    convolution = nn.Conv2d(2, 4, kernel, stride, kernel // 2, bias=False)
    nn.init.normal_(convolution.weight)
    basis = torch.eye(72).view(-1, 2, 6, 6)
    before = torch.linalg.matrix_norm(convolution(basis).flatten(1), 2).item()
    network = nn.Sequential(convolution, nn.Identity())  # the last layer is not normalized
    normalize(network, coefficient, torch.zeros(1, 2, 6, 6))
    for _ in range(1000):  # a power iteration is slow where the second singular value is near the first
        network.train()(basis[:1])
    after = torch.linalg.matrix_norm(network.eval()(basis).flatten(1), 2).item()
    assert after == pytest.approx(min(before, coefficient), rel=1e-3)


def test_a_network_without_a_whitened_layer_is_standardized_as_a_whitened_teachers_student():
    images = random_images(8, 8, 8)
    train = data.dataset_of([(image, 0) for image in images], Data(size=8, channels=1, decoded=None), ["a"])
    network = build(Architecture("mlp", 1.0, 8, 1, 2))
    standardize(network, TeacherSettings(whiten=True), train)
    assert network.normalize.mean.item() == pytest.approx(images.mean(), rel=1e-5)


def test_a_residual_network_has_its_published_size():
    with torch.device("meta"):
        assert sum(p.numel() for p in build(Architecture("resnet18", 1.0, 32, 3, 10)).parameters()) == 11_173_962


def test_an_ensembles_members_are_its_samples_and_the_other_half_its_reference():
    networks = [nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval() for _ in range(4)]
    images = torch.randn(10, 2, 2, 1)
    for sampler, own in zip(ensemble.samplers(networks), (networks[:2], networks[2:])):
        found = samples_of(sampler, images, Plan(2, "function", 4, (0, "train", "toy"))).log_probs
        torch.testing.assert_close(found, torch.stack([network(images).log_softmax(-1) for network in own], 1))
    with pytest.raises(UserError, match="an ensemble of 2 gives 2 samples, not 3"):
        samples_of(ensemble.samplers(networks)[0], images, Plan(3, "function", 4, (0, "train", "toy")))


def test_a_temperature_is_found_and_never_lowers_the_likelihood():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, C, generator=generator)
    labels = torch.distributions.Categorical(logits=logits / 2.5).sample()
    assert fit_temperature(logits.softmax(-1), labels) == pytest.approx(2.5, rel=0.1)
    torch.testing.assert_close(tempered(logits.softmax(-1), 2.5), (logits / 2.5).softmax(-1))
    for scale in (1e-4, 1, 1e3):  # nearly uniform, and nearly certain
        probs = (scale * logits).softmax(-1)
        better = tempered(probs, fit_temperature(probs, labels))
        before, after = (F.nll_loss(p.clamp_min(1e-12).log(), labels) for p in (probs, better))
        assert after <= before + 1e-6
