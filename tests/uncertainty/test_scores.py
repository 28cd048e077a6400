"""Scores against loops and closed forms."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from uncertainty.classification import aurc, brier, chance_warning, classification, ece, nll, ood_detection, resampled

RNG = np.random.default_rng(0)


@pytest.fixture
def predictions():
    probs = RNG.dirichlet([0.5] * 5, size=400)
    labels = np.array([RNG.choice(5, p=p) for p in probs])
    return probs, labels


def test_nll_and_brier_against_scikit_learn_and_by_hand(predictions):
    probs, labels = predictions
    assert nll(probs, labels).mean() == pytest.approx(log_loss(labels, probs), rel=1e-10)
    assert brier(np.array([[0.7, 0.2, 0.1]]), np.array([0])) == pytest.approx(0.09 + 0.04 + 0.01)
    assert nll(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(1e-12))


@pytest.mark.parametrize(
    "accuracy, loss, said",
    [
        (0.5, 1.0, "learnt nothing"),  # half of the images are of the largest class
        (0.59, 1.0, "learnt nothing"),  # two standard errors of 100 images: .1
        (0.59, 0.6, None),  # its probabilities are better than a guess's
        (0.7, 1.2, "worse than a guess"),  # a guess by the shares .5, .3, .2: 1.03 nats
        (0.7, 0.9, None),
    ],
)
def test_a_network_that_does_not_beat_a_guess_is_told(accuracy, loss, said):
    warning = chance_warning(accuracy, loss, np.repeat([0, 1, 2], [50, 30, 20]))
    assert warning is None if said is None else said in warning


def test_aurc_by_hand():
    # Sorted by confidence: right, wrong, right, wrong: risks 0, 1/2, 1/3, 1/2.
    found = aurc(np.array([0.9, 0.3, 0.8, 0.5]), np.array([True, False, False, True]))
    assert found == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_ood_detection_against_counting():
    inside, outside = RNG.normal(0, 1, 300), RNG.normal(1, 1, 200)
    found = ood_detection(inside, outside)
    assert found["auroc"] == pytest.approx((outside[:, None] > inside[None]).mean(), rel=1e-12)
    threshold = np.sort(outside)[10]  # 190 of 200 are at or above it
    assert found["fpr95"] == pytest.approx((inside >= threshold).mean(), abs=1e-12)
    assert ood_detection(inside, inside + 100) == {"auroc": 1.0, "auprc": 1.0, "fpr95": 0.0}
    assert ood_detection(np.arange(100), np.arange(100))["fpr95"] == 0.95  # equal scores in both


def test_ece_against_a_loop(predictions):
    probs, labels = predictions
    confidence, correct = probs.max(1), probs.argmax(1) == labels
    for equal_mass, bins in ((False, np.ceil(confidence * 15) - 1), (True, confidence.argsort().argsort() * 15 // 400)):
        expected = sum(abs((correct - confidence)[bins == b].sum()) for b in range(15)) / 400
        assert ece(confidence, correct, equal_mass=equal_mass) == pytest.approx(expected, rel=1e-12)


def test_resamples_are_the_same_images_for_all_methods(predictions):
    probs, labels = predictions
    inside, outside = RNG.random(400), RNG.random(300) + 0.3
    rows, found = resampled(probs, labels, {"near": (inside, outside)}, 400), classification(probs, labels)
    assert all(rows[name][0] == pytest.approx(found[name], abs=1e-5) for name in ("accuracy", "nll", "brier"))
    accuracy, error = np.array(rows["accuracy"]), (found["accuracy"] * (1 - found["accuracy"]) / 400) ** 0.5
    assert accuracy[1:].std() == pytest.approx(error, rel=0.1)
    probs[:10] = np.eye(5)[labels[:10]]  # differs for ten images alone: so does each resample
    better = resampled(probs, labels, {"near": (2 * inside, 2 * outside)}, 400)
    assert better["near"] == rows["near"] and (better["accuracy"] - accuracy)[1:].std() < 0.3 * accuracy[1:].std()
