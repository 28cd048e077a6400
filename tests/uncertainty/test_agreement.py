"""The yardstick on teachers whose truth is known: agreement, equivalent passes, limits, floors, intervals."""

import numpy as np
import pytest
import torch

from uncertainty import equivalent_passes
from uncertainty.agreement import Reference
from uncertainty.dirichlet import Dirichlet
from uncertainty.distribution import MEASURES, measures_of
from uncertainty.equivalent_passes import Curve, Resamples, beyond_softmax, passes_curves
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


@pytest.fixture
def judged(synthetic, curves, resamples, measure):
    """What the measure's values are worth."""
    halves = [measures_of(half)[measure] for half in synthetic[1][:2]]
    return lambda values: curves[measure].equivalent(resamples.pearson(values, halves))


@pytest.mark.parametrize("measure", MEASURES)
def test_beyond_the_curves_end_more_passes_are_told_from_fewer(synthetic, judged, measure):
    """Three of the other sets together are 300 passes, which a reference of 100 tells from 100, and not much closer."""
    many = Samples(torch.cat([other.log_probs for other in synthetic[1][2:5]], 1))
    assert 170 < judged(measures_of(many)[measure])["equivalent_passes"] <= 400
    found = judged(measures_of(synthetic[0])[measure])
    assert found["equivalent_passes"] == 400 and found["censored"]
    found = judged(RNG.normal(size=COUNT))
    assert (found["equivalent_passes"] or 0) < 0.5 and not found["censored"]


def reference(halves, resamples, fixed_samples=False):
    return Reference(halves, resamples.group, fixed_samples, 200, 0)


def test_agreement_of_the_truth_reaches_the_noise_ceiling_and_both_baselines_are_below(synthetic, curves, resamples):
    truth, (a, b, c, *_) = synthetic
    of_two = reference([a, b], resamples)
    entries = of_two.agreement(measures_of(truth))
    baselines = of_two.baselines(truth.mean, Samples(c.log_probs[:, :2]))
    for name in MEASURES:
        found = entries[name]
        assert found["pearson"] == pytest.approx(found["noise_ceiling"], abs=0.01), name
        assert found["noise_ceiling"] ** 2 == pytest.approx(found["split_half_pearson"], abs=1e-6)
        assert found["pearson_ci"][0] < found["pearson"] < found["pearson_ci"][1]
        assert baselines[name]["baseline_pearson"] <= found["pearson"] + 1e-6
        two = curves[name].pearson[0, list(curves[name].passes).index(2)]
        assert baselines[name]["last_layer_pearson"] == pytest.approx(two, abs=0.05)
        assert found["scale"] == pytest.approx(1, abs=0.03) and found["reference_passes"] == PASSES
    assert of_two.same_class(truth.predicted) > 0.8


def test_the_bootstrap_interval_covers_the_truth_and_knows_groups():
    def draw(rng, groups, size, rho=0.6):
        noise = rng.normal(size=(2, groups)).repeat(size, 1) + 0.05 * rng.normal(size=(2, groups * size))
        return noise[0], rho * noise[0] + (1 - rho**2) ** 0.5 * noise[1], np.arange(groups).repeat(size)

    covered = np.zeros(2, int)
    for seed in range(200):
        x, y, group = draw(np.random.default_rng(seed), 60, 5)
        rows = [Resamples(of, 300, seed).pearson(x, [y])[1:] for of in (group, np.arange(300))]
        low, high = np.quantile(rows, [0.025, 0.975], axis=1)
        covered += (low < 0.6) & (high > 0.6)
    assert 175 <= covered[0] <= 199  # 95% nominal
    assert covered[1] < covered[0] - 20  # resampling images instead of groups is too sure


@pytest.mark.parametrize("passes", [4, 50])
@pytest.mark.parametrize("measure", MEASURES)
def test_an_estimate_from_n_other_passes_is_equivalent_to_n(synthetic, judged, measure, passes):
    found = [judged(measures_of(Samples(other.log_probs[:, :passes]))[measure]) for other in synthetic[1][2:]]
    assert np.mean([f["equivalent_passes"] for f in found]) == pytest.approx(passes, rel=0.12)
    assert sum(f["equivalent_passes_ci"][0] < passes < f["equivalent_passes_ci"][1] for f in found) >= SETS - 2


def test_equivalent_passes_of_a_curve_that_obeys_the_law():
    def law(passes):
        return (1.1 * (1 + 5 / np.array(passes))) ** -0.5

    curve = Curve(np.array([2, 4, 8, 16, 32, 64]), np.tile(law([2, 4, 8, 16, 32, 64]), (3, 1)))
    found = curve.equivalent(law([20.0, 3.0, 200.0]))
    assert found["equivalent_passes"] == pytest.approx(20) and curve.residual == pytest.approx(0, abs=1e-9)
    assert found["equivalent_passes_ci"] == pytest.approx([3 + 0.025 * 197, 3 + 0.975 * 197], rel=1e-6)
    for pearson, passes in ((0.99, 4 * 64), (-0.2, None), (np.nan, None)):
        assert curve.equivalent(np.full(3, pearson))["equivalent_passes"] == passes
    noise = RNG.normal(0, 0.05, size=(100, 3))  # a curve without a positive correlation
    assert Curve(np.array([8, 16, 32]), noise).equivalent(np.full(100, 0.5))["equivalent_passes"] is None


def test_correlations_against_numpy_and_resampled_by_hand():
    x, a, b = RNG.normal(size=(3, 60))
    rows = Resamples(np.arange(60) // 3, 5, 0)
    assert rows.pearson(x, [a, b])[0] == pytest.approx(np.corrcoef([x, a, b])[0, 1:].mean())
    repeated = np.repeat(np.arange(60), np.repeat(rows.weights[3].astype(int), 3))
    assert rows.pearson(x, [a])[3] == pytest.approx(np.corrcoef(x[repeated], a[repeated])[0, 1])
    assert np.isnan(rows.pearson(np.ones(60), [a])).all()


def test_a_reference_compares_whole_distributions(synthetic, resamples):
    truth, halves = synthetic
    judges = reference(halves[:2], resamples).similarities
    good, poor, true = (judges(student) for student in (halves[2], Dirichlet(3 * truth.alpha), truth))
    same, exact, other = (found["energy_distance"] for found in (good, true, poor))
    assert [same["teacher"], same["student"], exact["student"]] == pytest.approx([0, 0, 0], abs=1e-3)
    assert 0.003 < other["student"] < other["point"]
    for judge in ("covariance", "variation_ratio"):
        assert good[judge]["student"] == pytest.approx(good[judge]["teacher"], abs=0.02)
        assert true[judge]["student"] > 0.9
    assert true["log_density"]["student"] > poor["log_density"]["student"] + 0.5


def test_what_one_softmax_says_is_worth_nothing_beyond_it(monkeypatch):
    """Total variance is a function of the softmax times an independent factor, which a second student alone knows."""
    monkeypatch.setattr(equivalent_passes, "DRAWS", 1)  # of which the time is made
    torch.manual_seed(0)
    softmax = torch.distributions.Dirichlet(torch.full((4,), 0.5)).sample((COUNT,)).clamp(1e-4)
    softmax /= softmax.sum(1, keepdim=True)
    alpha = softmax * (torch.rand(COUNT, 1) * 20 + 2)
    draws = torch.distributions.Dirichlet(alpha).sample((2 * PASSES,)).clamp_min(1e-30).log()
    halves = [Samples(half.transpose(0, 1)) for half in draws.split(PASSES)]
    of = Reference(halves, np.arange(COUNT), False, 100, 0)
    gini = (1 - softmax.square().sum(1)).double().numpy()
    knows_softmax = of.beyond(dict.fromkeys(MEASURES, gini), softmax)["total_variance"]
    knows_all = of.beyond(measures_of(Dirichlet(alpha)), softmax)["total_variance"]
    plain = of.agreement({"total_variance": gini})["total_variance"]
    assert plain["equivalent_passes"] > 1.2  # it is worth something, but nothing beyond itself
    assert (knows_softmax["equivalent_passes"] or 0) < 0.3 and abs(knows_softmax["pearson"]) < 0.1
    assert knows_all["equivalent_passes"] > 200
    assert knows_all["pearson"] == pytest.approx(knows_all["noise_ceiling"], abs=0.02)
    assert beyond_softmax(softmax)(np.sqrt(gini)).std() < 0.05 * np.sqrt(gini).std()


def test_the_bands_of_confidence_are_of_their_images_alone(synthetic):
    truth, (a, b, *_) = synthetic
    band = Reference([a, b], np.arange(COUNT), False, 50, 0).by_confidence(measures_of(truth), truth.mean)["0.0-0.7"]
    chosen = truth.mean.amax(1) <= 0.7
    assert band["images"] == chosen.sum()
    alone = Reference([Samples(half.log_probs[chosen]) for half in (a, b)], np.arange(band["images"]), False, 50, 0)
    expected = alone.agreement(measures_of(Dirichlet(truth.alpha[chosen])))["total_variance"]
    assert band["total_variance"]["pearson"] == pytest.approx(expected["pearson"])
    assert band["total_variance"]["noise_ceiling"] == pytest.approx(expected["noise_ceiling"], abs=0.01)


@pytest.mark.parametrize("fixed_samples", [False, True])
def test_few_passes_are_no_reference_but_an_ensembles_members_may_be_few(fixed_samples):
    curve = Curve(np.array([2, 4, 6]), np.tile([0.4, 0.5, 0.6], (9, 1)), fixed_samples)
    passes = curve.equivalent(np.full(9, 0.5))["equivalent_passes"]
    assert passes == pytest.approx(4) if fixed_samples else passes is None
