"""One network, one pass: softmax entropy, the largest probability, and the energy score (Liu et al. 2020)."""

from torch import Tensor

from configs.schema import Evaluation
from data.dataset import Dataset
from methods.interface import Networks, Prediction, Predictor, TeacherMethod
from models.inference import outputs_of
from training.compute import Compute
from uncertainty.delta import Delta


def energy(logits: Tensor) -> Tensor:
    """E(x) = −log Σ_c exp z_c [N], lower for inputs like the training data (eq. 4, temperature 1)."""
    return -logits.logsumexp(-1)


def predictor(networks: Networks, train: Dataset, settings: Evaluation, seed: int, compute: Compute) -> Predictor:
    """The softmax of one pass, and the energy score."""

    def predict(images: Tensor, name: str) -> Prediction:
        logits = outputs_of(networks[0], images, compute).cpu()
        return Prediction(Delta(logits), {"energy": energy(logits)})

    return predict


METHOD = TeacherMethod(predictor, ood_score="energy")
