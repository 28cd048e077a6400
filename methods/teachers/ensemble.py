"""Deep ensembles (Lakshminarayanan et al. 2017): M networks that differ in their seed alone; each is a sample.

2M networks are trained. The first M are the ensemble, from which students learn. The other M are the reference that
students are compared with.
"""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

from configs.errors import UserError
from configs.schema import Evaluation
from data.dataset import Dataset
from methods.interface import Networks, Prediction, Predictor, Samplers, TeacherMethod
from models.folding import folded
from models.inference import outputs_of
from training.compute import Compute
from uncertainty.mc_dropout import Group, Plan, Sampled
from uncertainty.samples import Samples


@torch.inference_mode()
def sample(networks: Networks, images: Callable[[Tensor], Tensor], groups: Iterable[Group], plan: Plan) -> Sampled:
    """The members' samples, group by group, as `uncertainty.mc_dropout.Sampler` gives those of passes.

    Raises UserError if the passes asked for are not as many as the networks.
    """
    members = len(networks)
    if plan.passes != members:
        raise UserError(
            f"an ensemble of {members} gives {members} samples, not {plan.passes}: set sampling.passes and "
            "evaluation.passes"
        )
    for group, indices in groups:
        batch = images(indices)
        log_probs = [network(batch).float().log_softmax(-1) for network in networks]
        yield group, indices, Samples(torch.stack(log_probs, 1))


def predictor(networks: Networks, train: Dataset, settings: Evaluation, seed: int, compute: Compute) -> Predictor:
    """One sample from each of the first M networks."""
    members = networks[: len(networks) // 2]

    def predict(images: Tensor, name: str) -> Prediction:
        return Prediction(
            Samples(torch.stack([outputs_of(member, images, compute).log_softmax(-1) for member in members], 1).cpu())
        )

    return predict


def samplers(networks: Networks) -> Samplers:
    """One sampler of the first M networks, one of the others."""
    networks = [folded(network) for network in networks]
    members = len(networks) // 2
    return partial(sample, networks[:members]), partial(sample, networks[members:])


METHOD = TeacherMethod(predictor, samplers, fixed_samples=True, ood_score="predictive_entropy")
