"""DDU, deep deterministic uncertainty (Mukhoti et al. 2021): a network that keeps distances, and one Gaussian per class
on its features.

`teacher.spectral_norm` bounds the convolutions (3.0 in the paper); without it this is the paper's ablation.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from configs.errors import UserError
from configs.schema import Evaluation
from data.dataset import Dataset
from methods.interface import Networks, Prediction, Predictor, TeacherMethod
from models.inference import outputs_of
from training.compute import Compute
from uncertainty.delta import Delta

JITTERS = [0.0] + [10.0**exponent for exponent in range(-20, 1)]


def pooled(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Cut a network behind its pooled convolutional features, which the authors' density is of; one without any, before
    the classifier.

    Linear layers with a ReLU between pooling and classifier give features that are zero for whole classes.
    """
    layers = list(network) if isinstance(network, nn.Sequential) else []
    pools = [i for i, layer in enumerate(layers) if isinstance(layer, nn.AdaptiveAvgPool2d)]
    if not pools:
        return network.body, nn.Sequential(network.classifier)
    end = pools[-1] + 2  # pooling, Flatten
    return network[:end], nn.Sequential(*network[end:])


def fit(features: Tensor, labels: Tensor) -> MixtureSameFamily:
    """q(z) = Σ_y q(z | y) q(y) with q(z | y) = N(μ_y, Σ_y), of features [N, F] (algorithm 1); the smallest jitter makes
    every Σ_y positive definite. Raises UserError for a class of one image."""
    features = features.double()
    classes = [features[labels == c] for c in range(int(labels.max()) + 1)]
    if min(map(len, classes)) < 2:
        raise UserError("teacher.method: ddu needs two training images of each class")
    mean, covariance = torch.stack([z.mean(0) for z in classes]), torch.stack([z.T.cov() for z in classes])
    for jitter in JITTERS:
        jittered = covariance + jitter * torch.eye(features.shape[1], dtype=torch.float64)
        factor, failed = torch.linalg.cholesky_ex(jittered)
        if not failed.any():
            break
    share = torch.tensor([len(z) / len(features) for z in classes], dtype=torch.float64)
    return MixtureSameFamily(Categorical(share), MultivariateNormal(mean, scale_tril=factor))


def log_density(density: MixtureSameFamily, features: Tensor) -> Tensor:
    """log q(z) of features [N, F]."""
    return torch.cat([density.log_prob(part.double()) for part in features.split(1024)])


def predictor(networks: Networks, train: Dataset, settings: Evaluation, seed: int, compute: Compute) -> Predictor:
    """Aleatoric: the softmax's entropy. Epistemic: −log q(z), of the pooled features z."""
    body, rest = pooled(networks[0])
    density = fit(outputs_of(body, train, compute).cpu(), train.labels.cpu())
    classifier = deepcopy(rest).to("cpu").eval()

    @torch.inference_mode()
    def predict(images: Tensor, name: str) -> Prediction:
        features = outputs_of(body, images, compute).cpu()
        return Prediction(
            Delta(classifier(features)), {"negative_log_density": -log_density(density, features).float()}
        )

    return predict


METHOD = TeacherMethod(predictor, ood_score="negative_log_density")
