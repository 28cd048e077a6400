"""The yardstick on teachers whose truth is known: agreement, equivalent passes, limits, floors, intervals."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch

from uncertainty.agreement import Reference, calibration, rejected, with_humans
from uncertainty.dirichlet import Dirichlet
from uncertainty.distribution import MEASURES, measures_of
from uncertainty.equivalent_passes import Curve, Resamples, equivalent_passes, passes_curves
from uncertainty.samples import Samples

RNG = np.random.default_rng(0)
COUNT, PASSES, SETS = 1500, 100, 8


@pytest.fixture(scope="module")
def synthetic() -> tuple[Dirichlet, list[Samples]]:
    """The truth, each input's own Dirichlet, and independent sets of samples drawn from it: two halves and SETS
    others."""
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


def judged(values, synthetic, curves, resamples, measure):
    return curves[measure].equivalent(
        resamples.pearson(values, [measures_of(half)[measure] for half in synthetic[1][:2]])
    )


@pytest.mark.parametrize("passes", [4, 16, 50, 100])
@pytest.mark.parametrize("measure", MEASURES)
def test_an_estimate_from_n_other_passes_is_equivalent_to_n(synthetic, curves, resamples, measure, passes):
    found = []
    for other in synthetic[1][2:]:
        posing = measures_of(Samples(other.log_probs[:, :passes]))[measure]
        found.append(judged(posing, synthetic, curves, resamples, measure))
    assert np.mean([f["equivalent_passes"] for f in found]) == pytest.approx(passes, rel=0.12)
    assert sum(f["equivalent_passes_ci"][0] < passes < f["equivalent_passes_ci"][1] for f in found) >= SETS - 2
    assert not any(f["censored"] for f in found)


@pytest.mark.parametrize("measure", MEASURES)
def test_beyond_the_curves_end_more_passes_are_told_from_fewer(synthetic, curves, resamples, measure):
    """Three of the other sets together are 300 passes, which a reference of 100 tells from 100, and not much closer."""
    sets = [other.log_probs for other in synthetic[1][2:]]
    found = judged(measures_of(Samples(torch.cat(sets[:3], 1)))[measure], synthetic, curves, resamples, measure)
    assert 170 < found["equivalent_passes"] <= 400
    found = judged(measures_of(synthetic[0])[measure], synthetic, curves, resamples, measure)
    assert found["equivalent_passes"] == 400 and found["censored"]
    found = judged(RNG.normal(size=COUNT), synthetic, curves, resamples, measure)
    assert found["equivalent_passes"] < 0.5 and not found["censored"]


def test_equivalent_passes_of_a_curve_that_obeys_the_law():
    passes = np.array([2, 4, 8, 16, 32, 64])
    curve = Curve(passes, np.tile((1.1 * (1 + 5 / passes)) ** -0.5, (3, 1)))
    wanted = np.array([20.0, 3.0, 200.0])
    found = curve.equivalent((1.1 * (1 + 5 / wanted)) ** -0.5)
    assert found["equivalent_passes"] == pytest.approx(20) and curve.residual == pytest.approx(0, abs=1e-9)
    assert found["equivalent_passes_ci"] == pytest.approx([3 + 0.025 * 197, 3 + 0.975 * 197], rel=1e-6)
    assert (
        curve.equivalent(np.full(3, 0.99))["censored"]
        and curve.equivalent(np.full(3, 0.99))["equivalent_passes"] == 4 * 64
    )
    assert curve.equivalent(np.full(3, -0.2))["equivalent_passes"] == 0
    assert curve.equivalent(np.full(3, np.nan))["equivalent_passes"] is None
    short = Curve(np.arange(1, 6), np.tile((1.1 * (1 + 5 / np.arange(1, 6))) ** -0.5, (3, 1)))  # of an ensemble of five
    found = short.equivalent((1.1 * (1 + 5 / np.array([8.0, 3.0, 30.0]))) ** -0.5)
    assert found["equivalent_passes"] == pytest.approx(8) and found["equivalent_passes_ci"] == pytest.approx(
        [3.425, 19.575]
    )  # ≤ 4 × 5
    noisy = Curve(
        passes, np.tile(np.linspace(0.9, 0.8, len(passes)), (3, 1))
    )  # of few images: more passes seem to be worse
    assert noisy.equivalent((noisy.line[0] - 1e-4) ** -0.5)["equivalent_passes"] == 4 * 64


def test_a_resample_that_is_constant_has_no_correlation():
    rows = Resamples(np.array([0, 0, 0, 1]), 200, 0)
    alone = (rows.weights == [2, 0]).all(1) | (rows.weights == [0, 2]).all(1)
    for _ in range(30):  # with some numbers a constant's variance is exactly 0, with others it is one of rounding
        a, b = RNG.random((2, 2))
        found = rows.pearson(np.array([a[0]] * 3 + [a[1]]), [np.array([b[0]] * 3 + [b[1]])])
        assert np.isnan(found[alone]).all() and found[~alone] == pytest.approx(np.sign((a[1] - a[0]) * (b[1] - b[0])))


def test_the_yardstick_needs_arrays_alone(synthetic, curves, resamples):
    a, b, other = (samples.log_probs.exp().numpy() for samples in synthetic[1][:3])
    student = measures_of(Samples(synthetic[1][2].log_probs[:, :16]))["total_variance"]
    found = equivalent_passes(student, a, b, np.arange(COUNT) // 10, "total_variance", 200)
    expected = judged(student, synthetic, curves, resamples, "total_variance")
    assert found["equivalent_passes"] == pytest.approx(expected["equivalent_passes"], rel=1e-3)
    assert found["residual"] < 0.1 and found["pearson_ci"][0] < found["pearson"] < found["pearson_ci"][1]


def test_the_curve_follows_theory(synthetic, curves):
    assert all((np.diff(curve.pearson[0]) > -0.005).all() for curve in curves.values())
    assert curves["predictive_entropy"].passes.tolist() == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 50, 70, 100]
    assert curves["total_variance"].passes[0] == 2
    # Expected entropy is a mean over passes: its reliability is r(N) = N / (N + k), and c(N) = sqrt(r(N) r(100)).
    curve = curves["expected_entropy"]
    k = PASSES * (1 - curve.pearson[0, -1]) / curve.pearson[0, -1]
    expected = np.sqrt(curve.passes / (curve.passes + k) * PASSES / (PASSES + k))
    assert curve.pearson[0] == pytest.approx(expected, abs=0.02)


def reference(halves, resamples, fixed_samples=False):
    return Reference(halves, resamples.group, fixed_samples, 200, 0)


def test_agreement_of_the_truth_reaches_the_limit_and_both_floors_are_below(synthetic, curves, resamples):
    truth, (a, b, c, *_) = synthetic
    judge = reference([a, b], resamples)
    entries, floors = judge.judge(measures_of(truth)), judge.baselines(truth.mean, Samples(c.log_probs[:, :2]))
    for name in MEASURES:
        found = entries[name]
        assert found["pearson"] == pytest.approx(found["noise_ceiling"], abs=0.01), name
        assert found["noise_ceiling"] ** 2 == pytest.approx(found["split_half_pearson"], abs=1e-6)
        assert found["pearson_ci"][0] < found["pearson"] < found["pearson_ci"][1]
        assert floors[name]["baseline_pearson"] <= found["pearson"] + 1e-6
        two = curves[name].pearson[0, list(curves[name].passes).index(2)]
        assert floors[name]["last_layer_pearson"] == pytest.approx(two, abs=0.05)
        assert found["scale"] == pytest.approx(1, abs=0.03) and found["reference_passes"] == PASSES
    assert judge.same_class(truth.predicted) > 0.8
    assert judge.baselines(truth.mean, None)["total_variance"]["last_layer_pearson"] is None


def test_the_scale_is_to_the_mean_of_all_passes(synthetic, resamples):
    """Of two halves together: the mutual information of few passes is too low."""
    a, b = (Samples(half.log_probs[:, :10]) for half in synthetic[1][:2])
    own = measures_of(synthetic[0])["mutual_information"]
    found = reference([a, b], resamples).judge({"mutual_information": own})["mutual_information"]
    both = Samples(torch.cat([a.log_probs, b.log_probs], 1)).mutual_information.double().mean().item()
    assert found["teacher_mean"] == pytest.approx(both) and found["scale"] == pytest.approx(own.mean() / both)
    assert both > 1.01 * a.mutual_information.mean().item()


def test_the_floor_is_the_better_of_gini_and_entropy(synthetic, resamples):
    truth, halves = synthetic
    floors = reference(halves[:2], resamples).baselines(truth.mean, None)
    p = truth.mean.double().numpy()
    pair = [half.total_variance.double().numpy() for half in halves[:2]]
    gini, entropy = 1 - (p**2).sum(1), -(p * np.log(p.clip(1e-300))).sum(1)
    best = max(np.mean([np.corrcoef(x, half)[0, 1] for half in pair]) for x in (gini, entropy))
    assert floors["total_variance"]["baseline_pearson"] == pytest.approx(best, rel=1e-6)


def test_correlations_against_scipy_and_resampled_by_hand():
    x, a, b = RNG.normal(size=(3, 60))
    a += x
    rows = Resamples(np.arange(60) // 3, 5, 0)
    assert rows.pearson(x, [a, b])[0] == pytest.approx(
        (scipy.stats.pearsonr(x, a)[0] + scipy.stats.pearsonr(x, b)[0]) / 2
    )
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
    """A student that is its teacher's first half, as one of an ensemble could be, is equivalent to just that half."""
    halves = [Samples(half.log_probs[:, :5]) for half in synthetic[1][:2]]
    entries = reference(halves, resamples, fixed_samples=True).judge(measures_of(halves[0]))
    for measure in MEASURES:
        first, second = (measures_of(half)[measure] for half in halves)
        assert entries[measure]["pearson"] == pytest.approx(np.corrcoef(first, second)[0, 1])
        assert entries[measure]["equivalent_passes"] == pytest.approx(5, rel=0.2)
        assert entries[measure]["scale"] == pytest.approx(first.mean() / second.mean())


def test_rejected_shares_are_those_above_the_teachers_threshold():
    teacher = {"test": {"total_variance": np.arange(1000.0)}, "other": {"total_variance": np.full(10, 5000.0)}}
    student = {"test": {"total_variance": np.arange(1000.0) + 50}, "other": {"total_variance": np.arange(10) * 200.0}}
    found = rejected(teacher, student)["total_variance"]
    assert found["test"] == {"teacher": 0.05, "student": 0.1} and found["other"] == {"teacher": 1.0, "student": 0.5}


def test_a_reference_judges_the_whole_distribution(synthetic):
    truth, (first, second, third, *_) = synthetic
    reference = Reference([first, second], np.arange(COUNT) // 10, False, 0, 0)
    good, poor, true = (reference.judges(student) for student in (third, Dirichlet(3 * truth.alpha), truth))
    energy = good["energy_distance"]
    assert (
        abs(energy["teacher"]) < 1e-3
        and abs(energy["student"]) < 1e-3
        and abs(true["energy_distance"]["student"]) < 1e-3
    )
    assert energy["point"] > 0.02 and 0.003 < poor["energy_distance"]["student"] < energy["point"]
    for judge in ("covariance", "variation_ratio"):
        assert (
            good[judge]["student"] == pytest.approx(good[judge]["teacher"], abs=0.02) and true[judge]["student"] > 0.9
        )
    assert (
        good["log_density"]["student"] is None and true["log_density"]["student"] > poor["log_density"]["student"] + 0.5
    )
