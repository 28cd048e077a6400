"""How good predicted probabilities are, and how well an uncertainty tells errors and OOD images apart. NumPy arrays."""

import numpy as np
from numpy import ndarray
from scipy.stats import entropy
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from uncertainty.equivalent_passes import Resamples

BINS = 15  # of confidence
LEARNT = 0.9  # of a guess's loss: less is no chance


def classification(probs: ndarray, labels: ndarray) -> dict[str, float]:
    """All scores of predicted probabilities [N, C] against labels [N]: the entries of a method in metrics.json."""
    confidence, correct = probs.max(1), probs.argmax(1) == labels
    return {
        "accuracy": correct.mean(),
        "macro_f1": f1_score(labels, probs.argmax(1), average="macro"),
        "nll": nll(probs, labels).mean(),
        "brier": brier(probs, labels).mean(),
        "ece": ece(confidence, correct),
        "ece_equal_mass": ece(confidence, correct, equal_mass=True),
        "misclassification_auroc": roc_auc_score(~correct, -confidence) if 0 < correct.mean() < 1 else None,
        "aurc": aurc(confidence, correct),
    }


def chance_warning(accuracy: float, loss: float, labels: ndarray) -> str | None:
    """What is wrong with a network whose accuracy, or loss (nats), on images with these labels [N] is no better than a
    guess by the shares of the classes; None if it is better."""
    shares = np.bincount(labels) / len(labels)
    most, guess = shares.max(), entropy(shares)
    if accuracy <= most + 2 * (most * (1 - most) / len(labels)) ** 0.5 and loss > LEARNT * guess:
        return (
            f"the teacher seems to have learnt nothing: its accuracy ({accuracy:.3f}, {len(labels)} images) is in the "
            f"noise of a guess (the largest class is {most:.3f} of them); try a lower teacher.lr, more epochs or "
            "another network"
        )
    if loss > guess:
        return (
            f"the teacher's probabilities are worse than a guess (NLL {loss:.3g}, of a guess {guess:.3g} nats), though "
            f"its accuracy is {accuracy:.3f}: it is sure of wrong answers; try a lower teacher.lr or fewer epochs"
        )
    return None


def nll(probs: ndarray, labels: ndarray) -> ndarray:
    """−log p of the true class [N], in nats; probabilities below 1e-12 count as 1e-12."""
    return -np.log(probs[np.arange(len(labels)), labels].clip(1e-12))


def brier(probs: ndarray, labels: ndarray) -> ndarray:
    """Σ_c (p_c − 1[c = y])² [N], between 0 and 2 (Brier 1950)."""
    return ((probs - np.eye(probs.shape[1])[labels]) ** 2).sum(1)


def confidence_bins(confidence: ndarray, correct: ndarray, equal_mass: bool = False) -> ndarray:
    """Share of the inputs, mean confidence and accuracy of each bin that is not empty: [B, 3].

    Bins are (k/15, (k+1)/15] of confidence, or with `equal_mass` hold the same number of inputs, sorted by confidence.
    """
    if equal_mass:
        bin_of = np.empty(len(confidence), dtype=int)
        bin_of[np.argsort(confidence, kind="stable")] = np.arange(len(confidence)) * BINS // len(confidence)
    else:
        bin_of = np.ceil(confidence * BINS).astype(int).clip(1, BINS) - 1
    count, sum_confidence, sum_correct = (np.bincount(bin_of, w, BINS) for w in (None, confidence, correct))
    full = count > 0
    count = count[full]
    return np.stack([count / len(confidence), sum_confidence[full] / count, sum_correct[full] / count], 1)


def ece(confidence: ndarray, correct: ndarray, equal_mass: bool = False) -> float:
    """Expected calibration error: Σ_b share_b · |accuracy_b − confidence_b| (Guo et al. 2017, eq. 3)."""
    share, mean_confidence, accuracy = confidence_bins(confidence, correct, equal_mass).T
    return (share * np.abs(accuracy - mean_confidence)).sum()


def risk_coverage(confidence: ndarray, correct: ndarray) -> tuple[ndarray, ndarray]:
    """Coverage k/N, and the error rate among the k most confident inputs, for k = 1..N (Geifman & El-Yaniv 2017)."""
    wrong = ~correct[np.argsort(-confidence, kind="stable")]
    k = np.arange(1, len(wrong) + 1)
    return k / len(wrong), wrong.cumsum() / k


def aurc(confidence: ndarray, correct: ndarray) -> float:
    """Area under the risk-coverage curve: the mean of its risks (Geifman et al. 2019)."""
    return risk_coverage(confidence, correct)[1].mean()


def resampled(
    probs: ndarray, labels: ndarray, scores: dict[str, tuple[ndarray, ndarray]], count: int
) -> dict[str, list[float]]:
    """Accuracy, NLL, Brier score, and the AUROC of `scores` {name: (inside [N], outside [M])}, of the data and of
    `count` resamples.

    The images that are drawn depend on N, M and `count` alone. So two methods can be compared in pairs: by differences,
    place by place.
    """

    def weights(size: int, seed: int) -> ndarray:
        return Resamples(np.arange(size), count, seed).weights

    of_image = np.stack([probs.argmax(1) == labels, nll(probs, labels), brier(probs, labels)])
    rows = dict(zip(("accuracy", "nll", "brier"), of_image @ weights(len(labels), 0).T / len(labels)))
    for name, (inside, outside) in scores.items():
        is_external = np.repeat([0, 1], [len(inside), len(outside)])
        drawn = np.concatenate([weights(len(inside), 0), weights(len(outside), 1)], 1)
        rows[name] = np.array(
            [roc_auc_score(is_external, np.concatenate([inside, outside]), sample_weight=w) for w in drawn]
        )
    return {name: row.round(5).tolist() for name, row in rows.items()}


def ood_detection(inside: ndarray, outside: ndarray) -> dict[str, float]:
    """How well an uncertainty [N] separates `outside` from `inside`; out of distribution is the positive class.

    fpr95: the share of in-distribution inputs above the threshold that 95% of the OOD inputs exceed.
    """
    is_external = np.repeat([0, 1], [len(inside), len(outside)])
    score = np.concatenate([inside, outside])
    fpr, tpr, _ = roc_curve(is_external, score, drop_intermediate=False)
    return {
        "auroc": roc_auc_score(is_external, score),
        "auprc": average_precision_score(is_external, score),
        "fpr95": fpr[np.searchsorted(tpr, 0.95)],
    }
