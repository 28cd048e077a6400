"""The yardstick on teachers whose truth is known: agreement, worth, limits, floors, intervals."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch

from uncertainty.agreement import agreement, calibration, with_humans
from uncertainty.dirichlet import Dirichlet
from uncertainty.distribution import MEASURES, measures_of
from uncertainty.families import dirichlet_by_likelihood, dirichlet_by_moments, family_limits, gaussian
from uncertainty.gaussian import LogitGaussian
from uncertainty.samples import Samples
from uncertainty.worth import Curve, Resamples, passes_curves

RNG = np.random.default_rng(0)
COUNT, PASSES, SETS = 1500, 100, 8


@pytest.fixture(scope="module")
def synthetic() -> tuple[Dirichlet, list[Samples]]:
    """The truth, each input's own Dirichlet, and independent sets of samples drawn from it: two halves and SETS others."""
    torch.manual_seed(0)
    alpha = torch.distributions.Dirichlet(torch.full((5,), 0.7)).sample((COUNT,)) * torch.rand(COUNT, 1) * 30 + 0.05
    draws = torch.distributions.Dirichlet(alpha).sample((2 + SETS, PASSES)).clamp_min(1e-30).log()
    return Dirichlet(alpha), [Samples(part.transpose(0, 1)) for part in draws]


@pytest.fixture(scope="module")
def resamples() -> Resamples:
    return Resamples(np.arange(COUNT) // 10, 200, 0)


@pytest.fixture(scope="module")
def curves(synthetic, resamples) -> dict[str, Curve]:
    return passes_curves(synthetic[1][:2], resamples)


def worth(values, synthetic, curves, resamples, measure):
    return curves[measure].worth(resamples.pearson(values, [measures_of(half)[measure] for half in synthetic[1][:2]]))


@pytest.mark.parametrize("passes", [4, 16, 50])
@pytest.mark.parametrize("measure", MEASURES)
def test_an_estimate_from_n_other_passes_is_worth_n(synthetic, curves, resamples, measure, passes):
    found = []
    for other in synthetic[1][2:]:
        posing = measures_of(Samples(other.log_probs[:, :passes]))[measure]
        found.append(worth(posing, synthetic, curves, resamples, measure))
    assert np.mean([f["worth_passes"] for f in found]) == pytest.approx(passes, rel=0.12)
    assert sum(f["worth_ci"][0] < passes < f["worth_ci"][1] for f in found) >= SETS - 2
    assert all(f["worth_above"] is f["worth_below"] is None for f in found)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_truth_is_worth_more_than_the_curve_and_noise_less(synthetic, curves, resamples, measure):
    found = worth(measures_of(synthetic[0])[measure], synthetic, curves, resamples, measure)
    assert found["worth_passes"] is None and found["worth_above"] == PASSES and found["worth_below"] is None
    found = worth(RNG.normal(size=COUNT), synthetic, curves, resamples, measure)
    assert found["worth_passes"] is None and found["worth_below"] == curves[measure].passes[0] and found["worth_above"] is None
    assert found["worth_ci"] == [0, 0]


def test_worth_is_read_off_in_log_n_and_never_extrapolated():
    curve = Curve(np.array([2, 8]), np.array([[0.5, 0.7]] * 3))
    assert curve.worth(np.array([0.6, 0.5, 0.7]))["worth_passes"] == pytest.approx(4)
    assert curve.worth(np.array([0.6, 0.4, 0.8]))["worth_ci"] == pytest.approx([0.2, 7.8])  # 0 and 8
    assert curve.worth(np.array([0.71, 0.6, 0.6]))["worth_above"] == 8
    assert curve.worth(np.array([0.49, 0.6, 0.6]))["worth_below"] == 2


def test_the_curve_follows_theory(synthetic, curves):
    assert all((np.diff(curve.pearson) >= 0).all() for curve in curves.values())
    assert curves["predictive_entropy"].passes.tolist() == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 50, 70, 100]
    assert curves["total_variance"].passes[0] == 2
    # Expected entropy is a mean over passes: its reliability is r(N) = N / (N + k), and c(N) = sqrt(r(N) r(100)).
    curve = curves["expected_entropy"]
    k = PASSES * (1 - curve.pearson[0, -1]) / curve.pearson[0, -1]
    expected = np.sqrt(curve.passes / (curve.passes + k) * PASSES / (PASSES + k))
    assert curve.pearson[0] == pytest.approx(expected, abs=0.02)


def test_agreement_of_the_truth_reaches_the_limit_and_both_floors_are_below(synthetic, curves, resamples):
    truth, (a, b, c, *_) = synthetic
    limits = family_limits([a, b])["dirichlet_by_moments"]
    head = Samples(c.log_probs[:, :2])
    entry = agreement(truth, [a, b], truth.mean, head, curves, limits, resamples)
    for name in MEASURES:
        found = entry[name]
        assert found["pearson"] == pytest.approx(found["limit_pearson"], abs=0.01), name
        assert found["family_limit_pearson"] == pytest.approx(found["limit_pearson"], abs=0.01), name
        assert found["limit_pearson"] ** 2 == pytest.approx(found["repeatability_pearson"], abs=1e-6)
        assert found["pearson_ci"][0] < found["pearson"] < found["pearson_ci"][1]
        assert found["floor_pearson"] <= found["pearson"] + 1e-6
        assert found["floor_head_pearson"] == pytest.approx(curves[name].pearson[0, list(curves[name].passes).index(2)], abs=0.05)
        assert found["scale"] == pytest.approx(1, abs=0.03) and found["reference_passes"] == PASSES
    assert entry["same_class"] > 0.8
    assert agreement(truth, [a, b], truth.mean, None, curves, limits, resamples)["total_variance"]["floor_head_pearson"] is None


def test_the_floor_is_the_better_of_gini_and_entropy(synthetic, curves, resamples):
    truth, halves = synthetic
    entry = agreement(truth, halves[:2], truth.mean, None, curves, family_limits(halves[:2])["logit_gaussian"], resamples)
    p = truth.mean.double().numpy()
    pair = [half.total_variance.double().numpy() for half in halves[:2]]
    gini, entropy = 1 - (p**2).sum(1), -(p * np.log(p.clip(1e-300))).sum(1)
    best = max(np.mean([np.corrcoef(x, half)[0, 1] for half in pair]) for x in (gini, entropy))
    assert entry["total_variance"]["floor_pearson"] == pytest.approx(best, rel=1e-6)


def test_correlations_against_scipy_and_resampled_by_hand():
    x, a, b = RNG.normal(size=(3, 60))
    a += x
    rows = Resamples(np.arange(60) // 3, 5, 0)
    assert rows.pearson(x, [a, b])[0] == pytest.approx((scipy.stats.pearsonr(x, a)[0] + scipy.stats.pearsonr(x, b)[0]) / 2)
    repeated = np.repeat(np.arange(60), np.repeat(rows.weights[3].astype(int), 3))
    assert rows.pearson(x, [a])[3] == pytest.approx(np.corrcoef(x[repeated], a[repeated])[0, 1])
    assert np.isnan(rows.pearson(np.ones(60), [a])).all()


def test_the_bootstrap_interval_covers_the_truth_and_knows_groups():
    def draw(rng, groups, size, rho=0.6):
        noise = rng.normal(size=(2, groups)).repeat(size, 1) + 0.05 * rng.normal(size=(2, groups * size))
        return noise[0], rho * noise[0] + (1 - rho**2) ** 0.5 * noise[1], np.arange(groups).repeat(size)

    covered, ignorant = 0, 0
    for seed in range(200):
        x, y, group = draw(np.random.default_rng(seed), 60, 5)
        low, high = np.quantile(Resamples(group, 300, seed).pearson(x, [y])[1:], [0.025, 0.975])
        covered += low < 0.6 < high
        low, high = np.quantile(Resamples(np.arange(300), 300, seed).pearson(x, [y])[1:], [0.025, 0.975])
        ignorant += low < 0.6 < high
    assert 175 <= covered <= 199  # 95% nominal
    assert ignorant < covered - 20  # resampling images instead of groups is too sure


# Families.


def test_the_likelihood_fit_is_where_the_likelihood_is_highest():
    torch.manual_seed(0)
    alpha = torch.tensor([[0.2, 1.5, 4.0], [30.0, 2.0, 0.05]])
    samples = Samples(torch.distributions.Dirichlet(alpha).sample((40,)).clamp_min(1e-30).log().transpose(0, 1))
    for fitted, log_probs in zip(dirichlet_by_likelihood(samples).alpha, samples.log_probs.double()):
        probs = (log_probs.exp() / log_probs.exp().sum(1, keepdim=True)).numpy()

        def loss(log_alpha, probs=probs):
            return -sum(scipy.stats.dirichlet.logpdf(p, np.exp(log_alpha)) for p in probs)

        best = scipy.optimize.minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9})
        assert fitted.log().numpy() == pytest.approx(best.x, abs=1e-3)


def test_the_moment_fit_has_the_samples_moments(synthetic):
    samples = synthetic[1][0]
    fitted = dirichlet_by_moments(samples)
    torch.testing.assert_close(fitted.mean, samples.mean.double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(fitted.total_variance, samples.total_variance.double(), rtol=1e-4, atol=1e-6)


def test_a_gaussian_teacher_is_fitted_by_gaussians_and_by_the_right_one():
    torch.manual_seed(0)
    factor = torch.randn(300, 4, 4) * torch.rand(300, 1, 1)
    truth = LogitGaussian(2 * torch.randn(300, 4), factor)
    halves = [truth.draw(torch.randn(300, 2000, 4)) for _ in "ab"]
    fitted = gaussian(halves[0])
    centred = truth.loc - truth.loc.mean(1, keepdim=True)
    assert (fitted.loc - centred).abs().max() < 0.3
    limits = family_limits(halves)
    for measure in ("total_variance", "mutual_information", "expected_entropy"):
        assert limits["logit_gaussian"][measure]["limit_pearson"] > 0.995
        assert limits["logit_gaussian"][measure]["scale"] == pytest.approx(1, abs=0.03)
        assert limits["logit_gaussian_diagonal"][measure]["limit_pearson"] < limits["logit_gaussian"][measure]["limit_pearson"]
    assert limits["dirichlet_by_moments"]["total_variance"]["scale"] == pytest.approx(1, abs=0.01)
    assert limits["dirichlet_by_likelihood"]["total_variance"]["scale"] < 0.95


# Scale and people.


def test_calibration_of_a_student_that_is_half_the_teacher():
    teacher = RNG.exponential(size=1000)
    student, expected = calibration(teacher / 2, teacher)
    assert len(student) == 20 and expected == pytest.approx(2 * student)
    assert student == pytest.approx(sorted(student)) and student.mean() == pytest.approx(teacher.mean() / 2)


def test_agreement_with_people_against_scipy():
    people, x = RNG.random((2, 200))
    found = with_humans(people, {"total_variance": x + people}, Resamples(np.arange(200), 50, 0))["total_variance"]
    assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(people, x + people)[0])
    assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(people, x + people)[0])
    assert found["spearman_ci"][0] < found["spearman"] < found["spearman_ci"][1]


def test_one_way_compares_with_the_second_half_alone(synthetic, resamples):
    """A student that is its teacher's first half, as one of an ensemble could be, is worth just that half."""
    halves = [Samples(half.log_probs[:, :5]) for half in synthetic[1][:2]]
    curves = passes_curves(halves, resamples, one_way=True)
    entry = agreement(halves[0], halves, halves[0].mean, None, curves, None, resamples, one_way=True)
    for measure in MEASURES:
        first, second = (measures_of(half)[measure] for half in halves)
        assert entry[measure]["pearson"] == pytest.approx(np.corrcoef(first, second)[0, 1])
        assert (entry[measure]["worth_passes"] or entry[measure]["worth_above"]) == pytest.approx(5)  # but for rounding just at the end
        assert entry[measure]["scale"] == pytest.approx(first.mean() / second.mean())
        assert entry[measure]["family_limit_pearson"] is None
