"""What is measured of a method's predictions: plain numbers, the same for teachers, students and every script."""

import numpy as np
import torch
from numpy import ndarray
from scipy.stats import spearmanr
from torch import nn

from configs.schema import Evaluation
from data.dataset import Dataset
from methods import teacher_method
from methods.interface import Prediction, Predictor
from methods.student import Student
from models.inference import outputs_of
from training.compute import Compute
from uncertainty.agreement import Reference
from uncertainty.cache import SampleCache
from uncertainty.classification import classification, ood_detection
from uncertainty.delta import Delta
from uncertainty.distribution import MEASURES, measures_of
from uncertainty.temperature import fit_temperature, tempered

CONFIDENT = 0.995  # the largest probability above which an image counts as one that the method is certain of

Scores = dict[str, ndarray]  # of a data set's images, by name; higher is less sure


def student_predictor(model: Student, compute: Compute) -> Predictor:
    """The predictions of one pass."""

    def predict(images: torch.Tensor, name: str) -> Prediction:
        return Prediction(model.distribution(outputs_of(model.outputs, images, compute).cpu()))

    return predict


def softmax_predictor(network: nn.Module, compute: Compute) -> Predictor:
    """The predictions of one pass without dropout."""
    return teacher_method("deterministic").predictor([network], None, None, 0, compute)


def reference_on(cache: SampleCache, dataset: Dataset, method: str, settings: Evaluation) -> Reference:
    """The teacher's samples on a data set, which students and baselines are compared with."""
    halves, group = cache.reference(dataset, settings)
    return Reference(halves, group, teacher_method(method).fixed_samples, settings.bootstrap, cache.seed)


def scores_of(prediction: Prediction) -> Scores:
    """Every uncertainty score [N] of a method. A `Delta` has only one kind of entropy.

    Raises ValueError for a score that is not finite.
    """
    measures = measures_of(prediction.distribution)
    names = MEASURES if not isinstance(prediction.distribution, Delta) else ["predictive_entropy"]
    scores = {name: measures[name] for name in names}
    scores["max_probability"] = 1 - prediction.distribution.max_probability.double().numpy()
    scores |= {name: score.double().numpy() for name, score in prediction.scores.items()}
    for name, score in scores.items():
        if not np.isfinite(score).all():
            raise ValueError(f"{name} is not finite for {(~np.isfinite(score)).sum()} of {len(score)} inputs")
    return scores


def measure(predictions: dict[str, Prediction], labels: ndarray) -> dict:
    """The quality of a method's predictions, by data set; `labels` are those of the first set, the others are OOD.

    before: the quality of the class probabilities (before temperature scaling). ood, errors: how well each score tells
    other images, and wrong answers, from the first set's (right) ones. confident: the share of images that the method
    is certain of. draws: samples behind a prediction. spearman_of_parts: of epistemic and aleatoric uncertainty.
    """
    scores = {name: scores_of(prediction) for name, prediction in predictions.items()}
    inside, *outside = scores
    mean = predictions[inside].distribution.mean.double().numpy()
    record = {
        "before": classification(mean, labels),
        "draws": predictions[inside].distribution.draws,
        "confident": {name: (of_set["max_probability"] < 1 - CONFIDENT).mean() for name, of_set in scores.items()},
        "ood": {name: detection(scores[inside], scores[name]) for name in outside},
    }
    if all("mutual_information" in of_set for of_set in scores.values()):
        record["spearman_of_parts"] = {
            name: spearmanr(of_set["mutual_information"], of_set["expected_entropy"]).statistic
            for name, of_set in scores.items()
        }
    if of_errors := errors(scores[inside], mean.argmax(1) == labels):
        record["errors"] = of_errors
    return record


def after_temperature(predict: Predictor, inside: Prediction, labels: ndarray, validation: Dataset) -> dict:
    """The temperature that suits the validation images, and the quality of the class probabilities with it."""
    fitted_on = predict(validation.images, validation.name).distribution.mean
    temperature = fit_temperature(fitted_on, validation.labels)
    probs = tempered(inside.distribution.mean.double(), temperature).numpy()
    return {"temperature": temperature, "after": classification(probs, labels)}


def detection(inside: Scores, outside: Scores) -> dict[str, dict[str, float]]:
    """How well each score separates `outside` from `inside`."""
    return {name: ood_detection(inside[name], outside[name]) for name in inside}


def errors(scores: Scores, right: ndarray) -> dict[str, dict[str, float]]:
    """How well each score [N] tells wrong answers from right ones; empty if all answers are of one kind."""
    if right.all() or not right.any():
        return {}
    return detection(*({name: score[chosen] for name, score in scores.items()} for chosen in (right, ~right)))
