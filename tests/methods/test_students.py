"""What a student outputs and is trained by: heads against autograd and Monte Carlo, losses against what they must not
be biased by."""

from typing import get_args

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from configs.schema import StudentSettings
from methods import STUDENTS
from methods.interface import Context, Matched
from methods.student import Student, load_student, parameter_groups
from methods.students import dirichlet
from methods.students.dirichlet import likelihood
from methods.students.logit_gaussian import Options as GaussianOptions
from methods.students.logit_gaussian import gaussian as gaussian_head
from methods.students.logit_gaussian import head_parameters as gaussian_parameters
from methods.students.moments import moments
from models.architecture import Architecture
from models.vgg import vgg
from uncertainty.dirichlet import Dirichlet
from uncertainty.distribution import MEASURES, Distribution, entropy
from uncertainty.gaussian import LogitGaussian, quasi_normal
from uncertainty.samples import Samples, statistics
from uncertainty.variance_propagation import propagate


def gaussian_outputs(count: int = 6, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return 2 * torch.randn(count, classes), torch.randn(count, classes * (classes + 3) // 2)


def test_the_covariance_of_the_gaussian_head():
    logits, numbers = gaussian_outputs()
    full = gaussian_head(logits, numbers, GaussianOptions())
    for n in range(len(logits)):
        lower = np.zeros((4, 4))
        lower[np.tril_indices(4, -1)] = numbers[n, 8:]
        lower += np.diag(np.log1p(np.exp(numbers[n, 4:8].numpy())))
        assert (full.factor[n] @ full.factor[n].T).numpy() == pytest.approx(lower @ lower.T, abs=1e-5)
    torch.testing.assert_close(full.loc, logits + numbers[:, :4])
    low = gaussian_head(logits, torch.randn(6, 16), GaussianOptions(rank=2))
    assert low.draw(torch.randn(6, 30, low.dimensions)).log_probs.shape == (6, 30, 4)
    assert gaussian_parameters(4, GaussianOptions()) == 14 and gaussian_parameters(4, GaussianOptions(rank=2)) == 16


@pytest.mark.parametrize("rank", [None, 2])
def test_quasi_random_measures_against_monte_carlo(rank):
    torch.manual_seed(1)
    logits = 2 * torch.randn(6, 4)
    numbers = 0.7 * torch.randn(6, gaussian_parameters(4, GaussianOptions(rank=rank)))
    student = gaussian_head(logits, numbers, GaussianOptions(rank=rank))
    covariance = student.factor @ student.factor.mT
    if rank is not None:
        covariance = covariance + torch.diag_embed(student.scale**2)
    for n in range(6):
        z = np.random.default_rng(n).multivariate_normal(
            student.loc[n].numpy(), covariance[n].double().numpy(), size=200_000
        )
        p = scipy.special.softmax(z, 1)
        assert student.mean[n].numpy() == pytest.approx(p.mean(0), abs=0.01)
        assert student.total_variance[n].item() == pytest.approx(p.var(0).sum(), abs=0.012)
        assert student.expected_entropy[n].item() == pytest.approx(scipy.stats.entropy(p, axis=1).mean(), abs=0.01)


def test_quasi_normal_numbers_are_normal():
    noise = quasi_normal(256, 10)
    assert noise.mean(0).abs().max() < 0.02 and (noise.var(0) - 1).abs().max() < 0.05
    assert (torch.corrcoef(noise.T) - torch.eye(10)).abs().max() < 0.15
    assert all(scipy.stats.kstest(column, "norm").statistic < 0.01 for column in noise.T.numpy())


# Losses.


def test_the_moment_loss_of_a_closed_form_is_kl_and_weighted_squares():
    student = Dirichlet(torch.rand(5, 3) * 4 + 0.1)
    targets = {"mean": torch.rand(5, 3).softmax(-1), "total_variance": torch.rand(5), "expected_entropy": torch.rand(5)}
    loss = moments(
        student, targets, Context({"total_variance": 0.2, "expected_entropy": 0.5}, options=GaussianOptions())
    )
    kl = (targets["mean"] * (targets["mean"].log() - student.mean.log())).sum(1)
    squares = ((student.total_variance - targets["total_variance"]) / 0.2) ** 2 / (0.5 + student.total_variance / 0.2)
    squares = squares + ((student.expected_entropy - targets["expected_entropy"]) / 0.5) ** 2 / (
        0.5 + student.expected_entropy / 0.5
    )
    assert loss.item() == pytest.approx((4 * kl + squares).mean().item(), rel=1e-5)


def test_noise_around_what_the_student_says_does_not_move_it():
    alpha = torch.tensor([[0.4, 1.0, 2.0]], requires_grad=True)
    student = Dirichlet(alpha.expand(2, 3))
    noise = torch.tensor([-0.1, 0.1])
    targets = {"mean": student.mean.detach(), "total_variance": student.total_variance.detach() + noise}
    (gradient,) = torch.autograd.grad(
        moments(student, targets, Context({"total_variance": 0.2}, options=dirichlet.Options())), alpha
    )
    assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("passes", [2, 8])
def test_targets_of_few_passes_are_unbiased(passes):
    torch.manual_seed(0)
    truth = Dirichlet(torch.tensor([[0.4, 1.0, 2.0]]))
    probs = torch.distributions.Dirichlet(truth.alpha).sample((60_000, passes)).squeeze(2).clamp_min(1e-30)
    found = statistics(probs.log())
    assert found["total_variance"].mean().item() == pytest.approx(truth.total_variance.item(), rel=0.02)
    assert found["expected_entropy"].mean().item() == pytest.approx(truth.expected_entropy.item(), rel=0.02)
    assert found["mean"].mean(0).numpy() == pytest.approx(truth.mean[0].numpy(), rel=0.02)
    plug_in = Samples(probs.log()).mutual_information.mean().item()
    assert plug_in < truth.mutual_information.item() * (0.7 if passes == 2 else 0.97)  # which is why it is no target


def moved(count: int = 40, classes: int = 3) -> LogitGaussian:
    """Logits that dropout moves, as it does, more the less sure they are."""
    torch.manual_seed(0)
    return LogitGaussian(torch.randn(count, classes), 0.8 * torch.eye(classes).expand(count, classes, classes))


def learnt(method: str, options: dict, truth: LogitGaussian) -> tuple[Distribution, dict[str, torch.Tensor]]:
    """What a loss makes of free numbers, beside a deterministic network's logits, and the targets: moments of a known
    Gaussian."""
    targets = statistics(truth.draw(torch.randn(len(truth.loc), 4000, truth.dimensions)).log_probs)
    chosen = STUDENTS[method]
    options = chosen.read_options(Settings(method=method, options=options))
    logits = truth.loc.clone().requires_grad_(True)
    numbers = (0.05 * torch.randn(len(logits), chosen.head_parameters(truth.loc.shape[1], options))).requires_grad_(
        True
    )
    optimizer = torch.optim.Adam([logits, numbers], 0.06)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 1500)
    context = Context({name: targets[name].std().item() for name in get_args(Matched)}, options=options)
    for _ in range(1500):
        loss = chosen.loss(chosen.head(logits, numbers, options), targets, context)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return chosen.head(logits, numbers, options), targets


@pytest.mark.parametrize("matched", get_args(Matched))
@pytest.mark.parametrize("head", dirichlet.STRUCTURED)
def test_a_structured_dirichlet_learns_the_mean_and_what_it_matches(head, matched):
    student, targets = learnt("dirichlet", {"head": head, "matched": [matched]}, moved())
    assert (student.mean - targets["mean"]).abs().max() < 0.01
    assert getattr(student, matched).numpy() == pytest.approx(targets[matched].numpy(), rel=0.03, abs=0.003)


def test_a_dirichlet_with_the_right_variance_has_too_much_mutual_information():
    student, targets = learnt("dirichlet", {}, moved())
    theirs = entropy(targets["mean"]) - targets["expected_entropy"]
    assert 1.05 < (student.mutual_information / theirs).mean() < 2


def test_a_gaussian_has_both():
    student, targets = learnt("logit_gaussian", {}, moved())
    for name in get_args(Matched):
        assert getattr(student, name).numpy() == pytest.approx(targets[name].numpy(), rel=0.1, abs=0.003), name


def test_by_likelihood_a_dirichlet_is_the_most_likely_one():
    student, targets = learnt("dirichlet", {"head": "last_layer", "loss": "likelihood"}, moved())
    for own, mean_log_prob in zip(
        student.nll(targets["mean_log_prob"]).tolist(), targets["mean_log_prob"].double().numpy()
    ):

        def nll(log_alpha, mean_log_prob=mean_log_prob):
            alpha = np.exp(log_alpha)
            return (
                scipy.special.gammaln(alpha).sum()
                - scipy.special.gammaln(alpha.sum())
                - ((alpha - 1) * mean_log_prob).sum()
            )

        assert own == pytest.approx(
            scipy.optimize.minimize(nll, np.zeros(len(mean_log_prob)), method="Nelder-Mead").fun, abs=0.02
        )
    precision = (1 - targets["mean"].square().sum(-1)) / targets["total_variance"] - 1
    by_moments = Dirichlet(precision.unsqueeze(-1) * targets["mean"])
    assert likelihood(student, targets, Context({})) < likelihood(by_moments, targets, Context({}))


def truth_of(z: torch.Tensor, factor: torch.Tensor) -> Samples:
    """softmax(z + U ε), by Monte Carlo."""
    return LogitGaussian(z, factor).draw(torch.randn(100_000, factor.shape[-1]))


def test_the_points_moments_are_those_of_moved_logits_where_they_move_little():
    torch.manual_seed(0)
    z, factor = torch.randn(20, 4), 0.3 * torch.randn(20, 4, 2)
    mean, precision = dirichlet.points(z, factor)
    student, truth = Dirichlet(precision.unsqueeze(-1) * mean), truth_of(z, factor)
    assert (student.mean - truth.mean).abs().max() < 0.01
    assert ((student.total_variance / truth.total_variance) - 1).abs().mean() < 0.05


def test_and_where_they_move_much_they_tell_which_moves_most():
    torch.manual_seed(0)
    z, factor = 2 * torch.randn(100, 10), torch.randn(100, 10, 10) * 3 * torch.rand(100, 1, 1)
    mean, precision = dirichlet.points(z, factor)
    student = Dirichlet(precision.unsqueeze(-1) * mean)
    truth = [
        LogitGaussian(z[i : i + 1], factor[i : i + 1]).draw(torch.randn(20_000, 10)).total_variance for i in range(100)
    ]
    assert np.corrcoef(student.total_variance, torch.cat(truth))[0, 1] > 0.95


@pytest.mark.parametrize("certainty", [5.0, 10.0, 14.0])
def test_the_points_precision_keeps_its_digits_where_one_class_is_nearly_certain(certainty: float):
    torch.manual_seed(0)
    z, factor = torch.randn(50, 10, dtype=torch.float64), torch.randn(50, 10, 3, dtype=torch.float64)
    z[:, 0] += certainty
    (mean, precision), (rough_mean, rough) = dirichlet.points(z, factor), dirichlet.points(z.float(), factor.float())
    torch.testing.assert_close(rough.double(), precision, rtol=1e-4, atol=0)
    torch.testing.assert_close(rough_mean.double(), mean, rtol=1e-4, atol=0)


def test_fixed_points_have_the_mean_and_the_covariance_of_the_gaussian():
    """A softmax is nearly linear where nothing moves far: then the moments must be those of first order, to the last
    digits."""
    z, factor = torch.randn(5, 4, dtype=torch.float64), 1e-3 * torch.randn(5, 4, 3, dtype=torch.float64)
    mean, precision = dirichlet.points(z, factor)
    jacobian = torch.diag_embed(z.softmax(-1)) - z.softmax(-1).unsqueeze(-1) * z.softmax(-1).unsqueeze(-2)
    variance = (jacobian @ factor).square().sum((1, 2))
    torch.testing.assert_close(Dirichlet(precision.unsqueeze(-1) * mean).total_variance, variance, rtol=1e-4, atol=0)
    torch.testing.assert_close(mean, z.softmax(-1), rtol=1e-4, atol=1e-6)


def test_the_laplace_bridge_is_its_papers_formula():
    """In two dimensions: α = (1/Σ) (1 − 1 + e^μ/4 (e^μ + e^−μ)) for Σ = σ² I and μ₁ = −μ₂ = μ."""
    mu, variance = 0.7, 0.3
    mean, total = dirichlet.laplace_bridge(torch.tensor([[mu, -mu]]), variance**0.5 * torch.eye(2).unsqueeze(0))
    expected = [np.exp(x) * (np.exp(mu) + np.exp(-mu)) / 4 / variance for x in (mu, -mu)]
    assert (total.unsqueeze(-1) * mean)[0].numpy() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("head", ["softplus", *dirichlet.STRUCTURED])
def test_concentrations_are_positive_and_finite_for_the_surest_and_the_least_sure_of_logits(head):
    options = dirichlet.Options(head)
    logits = torch.tensor([[200.0, 0.0, -200.0], [0.0, 0.0, 0.0], [-500.0, -500.0, -500.0]])
    for size in (0.0, 1e-4, 1.0, 50.0):
        numbers = (size * torch.randn(3, dirichlet.head_parameters(3, options))).requires_grad_(True)
        student = dirichlet.head(logits, numbers, options)
        assert (student.alpha > 0).all() and student.alpha.isfinite().all()
        assert all(getattr(student, measure).isfinite().all() for measure in MEASURES)
        loss = moments(
            student, statistics(torch.randn(3, 5, 3).log_softmax(-1)), Context({"total_variance": 0.1}, options=options)
        )
        assert torch.autograd.grad(loss, numbers)[0].isfinite().all()


def test_the_likelihood_is_the_mean_over_the_batch():
    student, log_probs = Dirichlet(torch.rand(4, 3) + 0.5), torch.randn(4, 9, 3).log_softmax(-1)
    expected = -torch.distributions.Dirichlet(student.alpha[:, None]).log_prob(log_probs.exp()).mean()
    assert likelihood(student, statistics(log_probs), Context({})).item() == pytest.approx(expected.item(), rel=1e-4)


# The network.


@pytest.mark.parametrize("method", STUDENTS)
def test_a_student_gives_every_measure_and_a_gradient_to_every_weight(method):
    torch.manual_seed(0)
    settings = Settings(method=method)
    options = STUDENTS[method].read_options(settings)
    student = Student(
        Architecture("vgg5", 0.125, 8, 1, 4, heads=STUDENTS[method].heads(options)), settings, list("abcd")
    ).eval()
    images = torch.randint(0, 256, (7, 8, 8, 1), dtype=torch.uint8)
    distribution = student(images)
    assert distribution.mean.shape == (7, 4)
    assert all(getattr(distribution, measure).isfinite().all() for measure in MEASURES)
    log_probs = torch.randn(7, 5, 4).log_softmax(-1)
    targets = statistics(log_probs) | {"log_probs": log_probs, "labels": torch.eye(4)[torch.randint(4, (7,))]}
    student.train()
    context = Context(dict.fromkeys(get_args(Matched), 0.1), 0.3, options, student.network)
    student.method.loss(student(images), targets, context).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters())
    groups = parameter_groups(student, settings)
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(map(id, student.parameters()))


def test_a_fresh_students_logits_are_its_teachers():
    teacher = vgg(Architecture("vgg5", 0.25, 8, 1, 4, 0.1, 0.5)).eval()
    student = Student(Architecture("vgg5", 0.25, 8, 1, 4), Settings(), list("abcd"))
    assert student.init_from(teacher) == len(teacher.state_dict())
    images = torch.randint(0, 256, (7, 8, 8, 1), dtype=torch.uint8)
    torch.testing.assert_close(student.outputs(images)[:, :4], teacher(images))


@pytest.mark.parametrize("batch_norm", ["teacher", "batch"])
def test_in_training_a_student_normalizes_as_its_settings_say(batch_norm):
    teacher = vgg(Architecture("vgg5", 0.25, 8, 1, 4, 0.1, 0.5)).eval()
    student = Student(Architecture("vgg5", 0.25, 8, 1, 4), Settings(batch_norm=batch_norm), list("abcd"))
    student.init_from(teacher)
    images = torch.randint(0, 256, (7, 8, 8, 1), dtype=torch.uint8)
    difference = (student.train().outputs(images)[:, :4] - teacher(images)).abs().max()
    assert difference < 1e-5 if batch_norm == "teacher" else difference > 0.01
    student.init_from(vgg(Architecture("vgg5", 0.5, 8, 1, 4, 0.1, 0.5)))  # whose statistics are of other channels
    assert student.train().network.norm1_1.training


@pytest.mark.parametrize("method", STUDENTS)
def test_a_student_of_any_method_keeps_its_teachers_statistics(method):
    """A method's own last layer has tensors that the teacher lacks; the teacher's batch norm fits all the same."""
    teacher = vgg(Architecture("vgg5", 0.25, 8, 1, 4, 0.1, 0.5))
    settings = Settings(method=method)
    heads = STUDENTS[method].heads(STUDENTS[method].read_options(settings))
    student = Student(Architecture("vgg5", 0.25, 8, 1, 4, heads=heads), settings, list("abcd"))
    student.init_from(teacher)
    student.train().outputs(torch.randint(0, 256, (7, 8, 8, 1), dtype=torch.uint8))
    assert torch.equal(student.network.norm1_1.running_mean, teacher.norm1_1.running_mean)


def test_propagated_features_are_the_propagated_gaussian(tmp_path):
    torch.manual_seed(0)
    architecture = Architecture("vgg5", 0.25, 8, 1, 4, 0.1, 0.5)
    teacher, student = (
        vgg(architecture).eval(),
        Student(architecture, Settings(options={"propagation": True}), list("abcd")),
    )
    student.init_from(teacher)
    images = torch.randint(0, 256, (7, 8, 8, 1), dtype=torch.uint8)
    gaussian = propagate(teacher, images)
    loc, probs, log_deviation, shape = student.train().propagated(images).split([4, 4, 4, 6], 1)
    torch.testing.assert_close((loc, probs), (gaussian.loc, gaussian.loc.softmax(1)))
    lower = torch.eye(4).repeat(7, 1, 1)
    lower[:, *torch.tril_indices(4, 4, -1)] = shape
    factor = lower * log_deviation.exp().unsqueeze(-1)
    torch.testing.assert_close(factor @ factor.mT, gaussian.factor @ gaussian.factor.mT, rtol=1e-4, atol=1e-5)
    assert student(images).mean.requires_grad
    student.eval().save(tmp_path / "student.safetensors", {})
    torch.testing.assert_close(load_student(tmp_path)(images).mean, student(images).mean, rtol=1e-3, atol=1e-5)


def test_a_smaller_student_takes_what_fits_of_the_teacher():
    teacher = vgg(Architecture("vgg13", 0.125, 32, 3, 10, 0.1, 0.5))
    student = Student(Architecture("vgg11", 0.125, 32, 3, 10), Settings(), list("abcdefghij"))
    copied = student.init_from(teacher)
    mine, theirs = student.network.state_dict(), teacher.state_dict()
    assert torch.equal(mine["conv1_1.weight"], theirs["conv1_1.weight"])
    assert torch.equal(mine["head2.weight"], theirs["head2.weight"])
    assert copied == sum(name in theirs and theirs[name].shape == mine[name].shape for name in mine) > 10


def test_a_narrower_student_is_cut_out_of_its_teacher():
    """If no layer of the teacher reads the channels that are cut off, the student's logits are the teacher's."""
    torch.manual_seed(0)
    teacher = vgg(Architecture("vgg5", 0.5, 8, 1, 4, 0.1, 0.5)).eval()
    student = Student(Architecture("vgg5", 0.25, 8, 1, 4), Settings(), list("abcd"))
    with torch.no_grad():
        for name, weight in student.network.named_parameters():
            if weight.ndim > 1:
                dict(teacher.named_parameters())[name][:, weight.shape[1] :] = 0
    assert student.init_from(teacher) == len(student.network.state_dict())
    images = torch.randint(0, 256, (7, 8, 8, 1), dtype=torch.uint8)
    torch.testing.assert_close(student.eval().outputs(images)[:, :4], teacher(images))


def test_the_perceptron_sees_every_block():
    student = Student(Architecture("vgg5", 0.25, 8, 1, 4), Settings(), list("abcd"))
    widths = [layer.out_channels for layer in student.network if isinstance(layer, nn.Conv2d)]
    images = torch.randint(0, 256, (3, 8, 8, 1), dtype=torch.uint8)
    logits, features = student.logits_and_features(images)
    assert features.shape[1] == sum(widths) + student.network.head1.out_features + 2 * 4
    torch.testing.assert_close(features[:, -4:], logits.softmax(-1))
    first_block = student.network[: list(dict(student.network.named_children())).index("pool1") + 1]
    torch.testing.assert_close(features[:, : widths[0]], first_block(images).mean((2, 3)))


def test_images_in_another_form_are_refused(tiny):
    student = Student(Architecture("vgg5", 0.125, 8, 1, 4), Settings(options={"hidden": 8}), list("abcd")).eval()
    right = torch.zeros(2, 8, 8, 1, dtype=torch.uint8)
    student(right)
    for wrong in (right.float() / 255, right.permute(0, 3, 1, 2), torch.zeros(2, 16, 16, 1, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r"uint8 \[N, 8, 8, 1\] in 0-255 was given"):
            student(wrong)
