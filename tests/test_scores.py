"""Scores and agreement against loops, closed forms and known truth."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from uncertainty.agreement import agreement, bootstrap_pearson, passes_curve, pearson, spearman
from uncertainty.classification import aurc, brier, classification, ece, nll, ood_detection
from uncertainty.dirichlet import Dirichlet
from uncertainty.distribution import MEASURES
from uncertainty.samples import Samples

RNG = np.random.default_rng(0)


@pytest.fixture
def predictions():
    probs = RNG.dirichlet([0.5] * 5, size=400)
    labels = np.array([RNG.choice(5, p=p) for p in probs])
    return probs, labels


def test_ece_against_a_loop(predictions):
    probs, labels = predictions
    confidence, correct = probs.max(1), probs.argmax(1) == labels
    expected = 0.0
    for b in range(15):
        chosen = [i for i in range(400) if b / 15 < confidence[i] <= (b + 1) / 15]
        if chosen:
            gap = sum(correct[i] for i in chosen) / len(chosen) - sum(confidence[i] for i in chosen) / len(chosen)
            expected += len(chosen) / 400 * abs(gap)
    assert ece(confidence, correct) == pytest.approx(expected, rel=1e-12)

    order = sorted(range(400), key=lambda i: confidence[i])
    parts = [[i for rank, i in enumerate(order) if rank * 15 // 400 == b] for b in range(15)]
    expected = sum(abs(sum(correct[i] - confidence[i] for i in part)) / 400 for part in parts)
    assert ece(confidence, correct, equal_mass=True) == pytest.approx(expected, rel=1e-12)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_ece_of_known_miscalibration():
    confidence = np.full(1000, 0.9)
    assert ece(confidence, np.arange(1000) < 700) == pytest.approx(0.2)
    assert ece(np.ones(10), np.ones(10, dtype=bool)) == 0.0


def test_nll_and_brier_against_scikit_learn_and_by_hand(predictions):
    probs, labels = predictions
    assert nll(probs, labels) == pytest.approx(log_loss(labels, probs), rel=1e-10)
    assert brier(np.array([[0.7, 0.2, 0.1]]), np.array([0])) == pytest.approx(0.09 + 0.04 + 0.01)
    assert nll(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(1e-12))


def test_aurc_by_hand():
    # Sorted by confidence: right, wrong, right, wrong: risks 0, 1/2, 1/3, 1/2.
    assert aurc(np.array([0.9, 0.3, 0.8, 0.5]), np.array([True, False, False, True])) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_a_perfect_classifier_has_no_misclassification_auroc():
    assert classification(np.eye(3), np.arange(3))["misclassification_auroc"] is None


def test_ood_detection_against_counting():
    inside, outside = RNG.normal(0, 1, 300), RNG.normal(1, 1, 200)
    found = ood_detection(inside, outside)
    assert found["auroc"] == pytest.approx((outside[:, None] > inside[None]).mean(), rel=1e-12)
    threshold = np.sort(outside)[10]  # 190 of 200 are at or above it
    assert found["fpr95"] == pytest.approx((inside >= threshold).mean(), abs=1e-12)
    assert ood_detection(inside, inside + 100) == {"auroc": 1.0, "auprc": 1.0, "fpr95": 0.0}


def test_correlations_are_averaged_over_the_halves():
    x, a, b = RNG.normal(size=(3, 50))
    a += x
    expected = (np.corrcoef(x, a)[0, 1] + np.corrcoef(x, b)[0, 1]) / 2
    assert pearson(x, [a, b]) == pytest.approx(expected, rel=1e-12)
    assert spearman(np.exp(3 * x), [a, b]) == pytest.approx(spearman(x, [a, b]), rel=1e-12)


def test_the_bootstrap_interval_covers_the_truth_and_knows_groups():
    def draw(rng, groups, size, rho=0.6):
        noise = rng.normal(size=(2, groups)).repeat(size, 1) + 0.05 * rng.normal(size=(2, groups * size))
        return noise[0], rho * noise[0] + (1 - rho**2) ** 0.5 * noise[1], np.arange(groups).repeat(size)

    covered, ignorant = 0, 0
    for seed in range(200):
        x, y, group = draw(np.random.default_rng(seed), 60, 5)
        low, high = bootstrap_pearson(x, [y], group, 300, seed)
        covered += low < 0.6 < high
        low, high = bootstrap_pearson(x, [y], np.arange(300), 300, seed)
        ignorant += low < 0.6 < high
    assert 175 <= covered <= 199  # 95% nominal
    assert ignorant < covered - 20  # resampling images instead of groups is too sure


def synthetic(count: int = 3000, passes: int = 30):
    """A teacher whose truth is known: each input's samples come from a Dirichlet."""
    torch.manual_seed(0)
    alpha = torch.distributions.Dirichlet(torch.full((5,), 0.7)).sample((count,)) * torch.rand(count, 1) * 30 + 0.05
    halves = [Samples(torch.distributions.Dirichlet(alpha).sample((passes,)).transpose(0, 1).clamp_min(1e-30).log()) for _ in "ab"]
    return Dirichlet(alpha), halves


def test_agreement_of_the_truth_is_the_root_of_the_repeatability():
    truth, halves = synthetic()
    entry = agreement(truth, halves, truth.mean, np.arange(3000) // 10, 200, 0)
    for name in MEASURES:
        found = entry[name]
        assert found["pearson"] == pytest.approx(found["repeatability_pearson"] ** 0.5, abs=0.01), name
        assert found["pearson_ci"][0] < found["pearson"] < found["pearson_ci"][1]
        assert found["floor_pearson"] <= found["pearson"] + 1e-6
        assert found["reference_passes"] == 30
    assert entry["total_variance"]["student_mean"] == pytest.approx(entry["total_variance"]["teacher_mean"], rel=0.02)
    assert entry["same_class"] > 0.8


def test_the_floor_is_the_better_of_gini_and_entropy():
    truth, halves = synthetic()
    entry = agreement(truth, halves, truth.mean, np.arange(3000), 10, 0)
    p = truth.mean.double().numpy()
    pair = [half.total_variance.double().numpy() for half in halves]
    gini, entropy = 1 - (p**2).sum(1), -(p * np.log(p.clip(1e-300))).sum(1)
    assert entry["total_variance"]["floor_pearson"] == pytest.approx(max(pearson(gini, pair), pearson(entropy, pair)), rel=1e-6)


def test_the_curve_of_passes_follows_theory():
    _, halves = synthetic()
    curve = passes_curve(halves)["predictive_entropy"]
    assert curve["passes"][0] == 1 and curve["passes"][-1] == 30
    assert curve["pearson"] == sorted(curve["pearson"])
    assert passes_curve(halves)["total_variance"]["passes"][0] == 2
    # The variance of an N-pass mean probability is 1/N of a sample's: reliability r(N) = N / (N + k), correlation √(r(N) r(T)).
    first = halves[0].log_probs[..., 0].exp().double().numpy()
    other = halves[1].log_probs[..., 0].exp().double().numpy().mean(1)
    total = np.corrcoef(first.mean(1), other)[0, 1]
    k = 30 * (1 - total) / total
    few = np.mean([np.corrcoef(first[:, i : i + 5].mean(1), other)[0, 1] for i in range(0, 30, 5)])
    assert few == pytest.approx((5 / (5 + k) * total) ** 0.5, abs=0.01)
