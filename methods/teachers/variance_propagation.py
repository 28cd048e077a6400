"""Variance propagation: the effect of dropout on the logits, in one pass, without training. Three rules:

variance_propagation: Gaussian activations (Postels et al. 2019; Gast & Roth 2018).
suq: each layer linearized at its mean, and one scale of the variance, fitted to the labels of training images (Li et
al. 2025; the softmax's mean is their probit approximation there, and that of draws here, as for the others).
cvp: Gaussian activations, and a scale for each layer, fitted to samples (Wieczorek et al. 2026). Their rule for layer
norms has no use here: batch norm at test time is linear.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from configs.schema import Evaluation
from data.dataset import Dataset
from methods.interface import Networks, Prediction, Predictor, TeacherMethod
from training.compute import Compute
from training.seeds import seed_of
from uncertainty.gaussian import LogitGaussian
from uncertainty.variance_propagation import LINEARIZED, layer_scales, propagate

BATCH = 256
FITTED = 2048  # training images that a scale is fitted to by their labels
CALIBRATED = 128  # training images that the layers' scales are fitted to by samples
PASSES = 32  # samples of each of them

Propagation = Callable[[Tensor], LogitGaussian]
"""Images → the Gaussian of their logits."""


def linearized(network: nn.Module, train: Dataset, compute: Compute) -> Propagation:
    """The variance is multiplied by the scale that makes the labels of training images most likely."""
    some = torch.arange(min(FITTED, len(train)))
    found = batched(partial(propagate, network, moments=LINEARIZED), train.batch(some), compute)
    labels = train.labels[some]

    def loss(log_scale: float) -> float:
        return F.nll_loss(scaled(found, log_scale).mean.clamp_min(1e-12).log(), labels).item()

    log_scale = minimize_scalar(loss, bounds=(-6, 6), method="bounded").x
    return lambda images: scaled(propagate(network, images, LINEARIZED), log_scale)


def calibrated(network: nn.Module, train: Dataset, compute: Compute) -> Propagation:
    """The variance after each layer is, in the mean over training images, that of samples."""
    images = train.batch(torch.arange(min(CALIBRATED, len(train)))).to(compute.device)
    return partial(propagate, network, scales=layer_scales(network, images, PASSES))


def scaled(gaussian: LogitGaussian, log_scale: float) -> LogitGaussian:
    """Its covariance times e^log_scale."""
    return LogitGaussian(gaussian.loc, gaussian.factor * math.exp(log_scale / 2))


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
SUQ = method(linearized)
CVP = method(calibrated)
