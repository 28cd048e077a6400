"""What a student outputs and is trained by: heads against autograd and Monte Carlo, losses against what they must not
be biased by."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from student_methods import Method, minimize, targets_of, vgg5_student

from methods import STUDENTS
from methods.interface import Matched
from methods.student import parameter_groups
from methods.students import dirichlet
from models.architecture import Architecture
from models.vgg import vgg
from uncertainty.dirichlet import Dirichlet
from uncertainty.distribution import MEASURES, Distribution, entropy

STRUCTURED = ("cubature", "laplace_bridge")  # heads of the Dirichlet
IMAGES = torch.randint(0, 256, (7, 8, 8, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name, numbers", [("dirichlet", 17 * 200 + 1), ("logit_gaussian", 18 * 200)])
def test_of_many_classes_the_covariance_has_a_low_rank(name, numbers):
    method = Method(name)
    assert method.perceptron_outputs(200) == numbers and method.perceptron_outputs(100) > 5000
    found = method.distribution(torch.zeros(2, 200), torch.randn(2, numbers))
    assert found.mean.shape == (2, 200) and (found.total_variance > 0).all()


@pytest.mark.parametrize("rank", [None, 2])
def test_quasi_random_measures_against_monte_carlo(rank):
    torch.manual_seed(1)
    method, logits = Method("logit_gaussian", rank=rank), 2 * torch.randn(6, 4)
    numbers = 0.7 * torch.randn(6, method.perceptron_outputs(4))
    student = method.distribution(logits, numbers)
    for n in range(6):
        scale, factor = torch.diag(F.softplus(numbers[n, 4:8])), numbers[n, 8:]
        if rank is None:
            scale[*torch.tril_indices(4, 4, -1)] = factor
            z = torch.randn(200_000, 4) @ scale.T
        else:
            z = torch.randn(200_000, 4) @ scale + torch.randn(200_000, rank) @ factor.view(4, rank).T
        p = (logits[n] + numbers[n, :4] + z).softmax(-1)
        torch.testing.assert_close(student.mean[n], p.mean(0), atol=0.01, rtol=0)
        torch.testing.assert_close(student.total_variance[n], p.var(0).sum(), atol=0.012, rtol=0)
        torch.testing.assert_close(student.expected_entropy[n], entropy(p).mean(), atol=0.01, rtol=0)


@pytest.mark.parametrize("head", STRUCTURED)
def test_a_dirichlet_of_many_inputs_is_computed_in_parts(head, monkeypatch):
    method = Method("dirichlet", head=head)
    logits, numbers = torch.randn(5, 3), torch.randn(5, method.perceptron_outputs(3))
    whole = method.distribution(logits, numbers).alpha
    monkeypatch.setattr(dirichlet, "CHUNK", 2)
    torch.testing.assert_close(method.distribution(logits, numbers).alpha, whole)


# Losses.


def test_the_moment_loss_of_a_closed_form_is_kl_and_weighted_squares():
    student, targets = Dirichlet(torch.rand(5, 3) * 4 + 0.1), targets_of(torch.randn(5, 7, 3).log_softmax(-1))
    method = Method("dirichlet", matched=["total_variance", "expected_entropy"], mean_weight=4.0)
    expected = 4 * (targets["mean"] * (targets["mean"] / student.mean).log()).sum(1)
    for name in get_args(Matched):
        own = getattr(student, name)
        expected += ((own - targets[name]) / 0.2) ** 2 / (0.5 + own / 0.2)
    assert method.loss(student, targets, deviation=0.2).item() == pytest.approx(expected.mean().item(), rel=1e-5)


def test_noise_around_what_the_student_says_does_not_move_it():
    alpha = torch.tensor([[0.4, 1.0, 2.0]], requires_grad=True)
    student = Dirichlet(alpha.expand(2, 3))
    noisy = student.total_variance.detach() + torch.tensor([-0.1, 0.1])
    targets = targets_of(torch.zeros(2, 2, 3)) | {"mean": student.mean.detach(), "total_variance": noisy}
    (gradient,) = torch.autograd.grad(Method("dirichlet").loss(student, targets, deviation=0.2), alpha)
    assert gradient.abs().max() < 1e-6


def learnt(name: str, **options) -> tuple[Distribution, dict[str, torch.Tensor]]:
    """What a loss makes of free numbers, beside a deterministic network's logits, and the targets: of logits that
    dropout moves, as it does, more the less sure they are."""
    torch.manual_seed(0)
    method, loc = Method(name, **options), torch.randn(40, 3)
    targets = targets_of((loc.unsqueeze(1) + 0.8 * torch.randn(40, 4000, 3)).log_softmax(-1))
    numbers = [loc.clone().requires_grad_(), (0.05 * torch.randn(40, method.perceptron_outputs(3))).requires_grad_()]
    minimize(lambda: method.loss(method.distribution(*numbers), targets), numbers, 0.06)
    with torch.no_grad():
        return method.distribution(*numbers), targets


@pytest.mark.parametrize("matched", get_args(Matched))
@pytest.mark.parametrize("head", STRUCTURED)
def test_a_structured_dirichlet_learns_the_mean_and_what_it_matches(head, matched):
    student, targets = learnt("dirichlet", head=head, matched=[matched])
    assert (student.mean - targets["mean"]).abs().max() < 0.01
    assert getattr(student, matched).numpy() == pytest.approx(targets[matched].numpy(), rel=0.03, abs=0.003)
    if matched == "total_variance":  # with the right variance a Dirichlet has too much mutual information
        theirs = entropy(targets["mean"]) - targets["expected_entropy"]
        assert 1.05 < (student.mutual_information / theirs).mean() < 2


def test_a_gaussian_has_both():
    student, targets = learnt("logit_gaussian")
    for name in get_args(Matched):
        assert getattr(student, name).numpy() == pytest.approx(targets[name].numpy(), rel=0.1, abs=0.003), name


def test_by_likelihood_the_loss_is_that_of_the_samples():
    method, logits = Method("dirichlet", head="last_layer", objective="likelihood"), torch.randn(5, 3)
    log_probs = torch.randn(5, 7, 3).log_softmax(-1)
    expected = -torch.distributions.Dirichlet(F.softplus(logits).unsqueeze(1)).log_prob(log_probs.exp()).mean()
    found = method.loss(method.distribution(logits), targets_of(log_probs))
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


# The Dirichlet of moved logits.


def moved(head: str, z: torch.Tensor, factor: torch.Tensor) -> Dirichlet:
    """What a head makes of softmax(z + U ε) with ε ~ N(0, I)."""
    numbers = torch.cat([torch.zeros_like(z), torch.zeros_like(z[:, :1]), factor.flatten(1)], 1)
    return Method("dirichlet", head=head, rank=factor.shape[-1]).distribution(z, numbers)


@pytest.mark.parametrize("certainty", [5.0, 14.0])
def test_the_points_precision_keeps_its_digits_where_one_class_is_nearly_certain(certainty):
    torch.manual_seed(0)
    z, factor = torch.randn(50, 10, dtype=torch.float64), torch.randn(50, 10, 3, dtype=torch.float64)
    z[:, 0] += certainty
    exact, rough = moved("cubature", z, factor), moved("cubature", z.float(), factor.float())
    torch.testing.assert_close(rough.alpha.sum(1).double(), exact.alpha.sum(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(rough.mean.double(), exact.mean, rtol=1e-3, atol=1e-7)


def test_points_have_the_mean_and_the_covariance_of_the_gaussian():
    """A softmax is nearly linear where nothing moves far: then the moments must be those of first order, to the last
    digits."""
    z, factor = torch.randn(5, 4, dtype=torch.float64), 1e-3 * torch.randn(5, 4, 3, dtype=torch.float64)
    student, p = moved("cubature", z, factor), z.softmax(-1)
    jacobian = torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)
    variance = (jacobian @ factor).square().sum((1, 2))
    torch.testing.assert_close(student.total_variance, variance, rtol=1e-4, atol=0)
    torch.testing.assert_close(student.mean, p, rtol=1e-4, atol=1e-6)


def test_the_laplace_bridge_is_its_papers_formula():
    """In two dimensions: α = (1/Σ) (1 − 1 + e^μ/4 (e^μ + e^−μ)) for Σ = σ² I and μ₁ = −μ₂ = μ."""
    mu, variance = torch.tensor([[0.7, -0.7]]), 0.3
    student = moved("laplace_bridge", mu, variance**0.5 * torch.eye(2).unsqueeze(0))
    torch.testing.assert_close(student.alpha, mu.exp() * mu.exp().sum() / 4 / variance, rtol=1e-5, atol=0)


@pytest.mark.parametrize("head", ["softplus", *STRUCTURED])
def test_concentrations_are_positive_and_finite_for_the_surest_and_the_least_sure_of_logits(head):
    method, targets = Method("dirichlet", head=head), targets_of(torch.randn(3, 5, 3).log_softmax(-1))
    logits = torch.tensor([[200.0, 0.0, -200.0], [0.0, 0.0, 0.0], [-500.0, -500.0, -500.0]])
    for size in (0.0, 1e-4, 1.0, 50.0):
        numbers = (size * torch.randn(3, method.perceptron_outputs(3))).requires_grad_(True)
        student = method.distribution(logits, numbers)
        assert (student.alpha > 0).all() and student.alpha.isfinite().all()
        assert all(getattr(student, measure).isfinite().all() for measure in MEASURES)
        assert torch.autograd.grad(method.loss(student, targets), numbers)[0].isfinite().all()


# The network.


def teacher(width: float = 0.25):
    torch.manual_seed(0)
    return vgg(Architecture("vgg5", width, 8, 1, 4, 0.1, 0.5)).eval()


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_gives_every_measure_a_gradient_to_every_weight_and_keeps_its_teachers_statistics(name):
    torch.manual_seed(0)
    student, network = vgg5_student(name).eval(), teacher()
    distribution = student(IMAGES)
    assert distribution.mean.shape == (7, 4)
    assert all(getattr(distribution, measure).isfinite().all() for measure in MEASURES)
    targets = targets_of(torch.randn(7, 5, 4).log_softmax(-1))
    Method(name).loss(student.train()(IMAGES), targets, student.network, 0.3).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters())
    groups = parameter_groups(student, student.settings)
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(map(id, student.parameters()))
    student.init_from(network)
    student.train().outputs(IMAGES)
    assert torch.equal(student.network.norm1_1.running_mean, network.norm1_1.running_mean)


def test_a_fresh_students_logits_are_its_teachers_in_training_too_and_several_heads_are_apart():
    network, student, heads = teacher(), vgg5_student(), vgg5_student("hydra", heads=3)
    assert student.init_from(network) == heads.init_from(network) == len(network.state_dict())
    torch.testing.assert_close(student.eval().outputs(IMAGES)[:, :4], network(IMAGES))
    torch.testing.assert_close(student.train().outputs(IMAGES)[:, :4], network(IMAGES))
    first, *others = heads.eval()(IMAGES).log_probs.unbind(1)
    assert all((first - other).abs().max() > 1e-3 for other in others)  # or those with one loss would stay the same
    weights = heads.network.classifier.weight - network.classifier.weight
    assert weights.std().item() == pytest.approx(0.1 * (2 / weights.shape[-1]) ** 0.5, rel=0.15)
    student.init_from(teacher(0.5))  # whose statistics are of other channels
    assert student.train().network.norm1_1.training


def test_a_narrower_student_is_cut_out_of_its_teacher():
    """If no layer of the teacher reads the channels that are cut off, the student's logits are the teacher's."""
    network, student = teacher(0.5), vgg5_student()
    with torch.no_grad():
        for name, weight in student.network.named_parameters():
            if weight.ndim > 1:
                network.get_parameter(name)[:, weight.shape[1] :] = 0
    assert student.init_from(network) == len(student.network.state_dict())
    torch.testing.assert_close(student.eval().outputs(IMAGES)[:, :4], network(IMAGES))


def test_images_in_another_form_are_refused():
    student = vgg5_student(hidden=8).eval()
    right = torch.zeros(2, 8, 8, 1, dtype=torch.uint8)
    student(right)
    for wrong in (right.float() / 255, right.permute(0, 3, 1, 2), torch.zeros(2, 16, 16, 1, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r"uint8 \[N, 8, 8, 1\] in 0-255 was given"):
            student(wrong)
