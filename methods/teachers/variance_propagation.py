"""Variance propagation (Postels et al. 2019; Gast & Roth 2018): the effect of dropout on the logits, in one pass,
without training."""

import torch
from torch import Tensor

from configs.schema import Evaluation
from data.dataset import Dataset
from methods.interface import Networks, Prediction, Predictor, TeacherMethod
from training.compute import Compute
from uncertainty.gaussian import LogitGaussian
from uncertainty.variance_propagation import propagate

BATCH = 256


def predictor(networks: Networks, train: Dataset, settings: Evaluation, seed: int, compute: Compute) -> Predictor:
    """The Gaussian of the logits, for each image."""

    @torch.inference_mode()
    def predict(images: Tensor, name: str) -> Prediction:
        with compute.autocast():
            parts = [propagate(networks[0], batch.to(compute.device)) for batch in images.split(BATCH)]
        loc, factor = (torch.cat([getattr(part, name) for part in parts]).cpu() for name in ("loc", "factor"))
        return Prediction(LogitGaussian(loc, factor))

    return predict


METHOD = TeacherMethod(predictor)
