"""A Laplace approximation of the last layer (Daxberger et al. 2021), by the authors' laplace-torch: `pip install
laplace-torch`."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from configs.errors import UserError
from configs.schema import Evaluation
from data.dataset import Dataset
from methods.interface import Networks, Prediction, Predictor, TeacherMethod
from models.inference import outputs_of
from training.compute import Compute
from uncertainty.samples import Samples

DRAWS = 100


def predictor(networks: Networks, train: Dataset, settings: Evaluation, seed: int, compute: Compute) -> Predictor:
    """DRAWS samples of the probabilities, from the Gaussian of the logits. The prior's precision maximizes the marginal
    likelihood.

    Raises UserError if laplace-torch is not installed.
    """
    try:
        from laplace import Laplace
    except ImportError:
        raise UserError("teacher.method: laplace needs laplace-torch (pip install laplace-torch)") from None
    body, last = networks[0].body, networks[0].classifier
    # The clone is no inference tensor: the fit takes gradients.
    features = outputs_of(body, train, compute).cpu().clone()
    classifier = nn.Sequential(deepcopy(last)).to("cpu")
    posterior = Laplace(classifier, "classification", subset_of_weights="all", hessian_structure="kron")
    posterior.fit(DataLoader(TensorDataset(features, train.labels.cpu()), batch_size=1024))
    posterior.optimize_prior_precision(method="marglik")

    def predict(images: Tensor, name: str) -> Prediction:
        torch.manual_seed(seed)
        parts = outputs_of(body, images, compute).cpu().clone().split(1024)
        probs = torch.cat([posterior.predictive_samples(part, n_samples=DRAWS).transpose(0, 1) for part in parts])
        return Prediction(Samples(probs.clamp_min(1e-30).log().detach()))

    return predict


METHOD = TeacherMethod(predictor, ood_score="max_probability")
