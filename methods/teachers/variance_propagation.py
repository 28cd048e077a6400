"""Variance propagation: the effect of dropout on the logits, in one pass, without training. Three rules:

variance_propagation: Gaussian activations (Postels et al. 2019; Gast & Roth 2018).
suq: each layer linearized at its mean (Li et al. 2025; the softmax's mean is their probit approximation there, and that
of draws here, as for the others). Their scale of the variance, fitted to the labels of training images, is left out: a
network that has learnt these images by heart is best without any variance.
cvp: Gaussian activations, and a scale for each layer, fitted to samples (Wieczorek et al. 2026). Their rule for layer
norms has no use here: batch norm at test time is linear.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from configs.schema import Evaluation
from data.dataset import Dataset
from methods.interface import Networks, Prediction, Predictor, TeacherMethod
from training.compute import Compute
from training.seeds import seed_of
from uncertainty.gaussian import LogitGaussian
from uncertainty.variance_propagation import LINEARIZED, layer_scales, propagate

BATCH = 256
CALIBRATED = 128  # training images that the layers' scales are fitted to
PASSES = 32  # samples of each of them

Propagation = Callable[[Tensor], LogitGaussian]
"""Images → the Gaussian of their logits."""


def calibrated(network: nn.Module, train: Dataset, compute: Compute) -> Propagation:
    """The variance after each layer is, in the mean over training images, that of samples."""
    images = train.batch(torch.arange(min(CALIBRATED, len(train)))).to(compute.device)
    return partial(propagate, network, scales=layer_scales(network, images, PASSES))


def batched(propagation: Propagation, images: Tensor, compute: Compute) -> LogitGaussian:
    """The Gaussian of many images' logits, on the CPU."""
    with compute.autocast():
        parts = [propagation(batch.to(compute.device)) for batch in images.split(BATCH)]
    return LogitGaussian(*(torch.cat([getattr(part, name) for part in parts]).cpu() for name in ("loc", "factor")))


def method(fit: Callable[[nn.Module, Dataset, Compute], Propagation]) -> TeacherMethod:
    """The method that a rule gives."""

    @torch.inference_mode()
    def predictor(networks: Networks, train: Dataset, settings: Evaluation, seed: int, compute: Compute) -> Predictor:
        torch.manual_seed(seed_of(seed, "variance propagation"))
        with compute.autocast():
            propagation = fit(networks[0], train, compute)
        return torch.inference_mode()(lambda images, name: Prediction(batched(propagation, images, compute)))

    return TeacherMethod(predictor)


METHOD = method(lambda network, train, compute: partial(propagate, network))  # nothing is fitted
SUQ = method(lambda network, train, compute: partial(propagate, network, moments=LINEARIZED))
CVP = method(calibrated)
