"""MC-dropout in the classifier alone: the features are computed once, so that many passes cost little more than one."""

from torch import Tensor

from configs.errors import UserError
from configs.schema import Evaluation
from data.dataset import Dataset
from methods.interface import Networks, Prediction, Predictor, TeacherMethod
from models.inference import outputs_of
from training.compute import Compute
from uncertainty.mc_dropout import Plan, Sampler, samples_of, split_head

GROUP = 256  # images that share a mask


def predictor(networks: Networks, train: Dataset, settings: Evaluation, seed: int, compute: Compute) -> Predictor:
    """`settings.passes` samples of each image. Raises UserError if the classifier has no dropout."""
    parts = split_head(networks[0])
    if parts is None:
        raise UserError("dropout in the last layer alone: the classifier has none (teacher.head_dropout)")
    body, head = parts
    sampler = Sampler(head)

    def predict(images: Tensor, name: str) -> Prediction:
        features = outputs_of(body, images, compute)
        plan = Plan(settings.passes, "grouped", GROUP, (seed, "head", name))
        with compute.autocast():
            return Prediction(samples_of(sampler, features, plan))

    return predict


METHOD = TeacherMethod(predictor)
