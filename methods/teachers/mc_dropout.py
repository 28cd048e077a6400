"""MC-dropout (Gal & Ghahramani 2016): T passes with dropout on, each a sample. The teacher of this project.

Beside it, the energy score of one pass without dropout.
"""

from torch import Tensor

from configs.schema import Evaluation
from data.dataset import Dataset
from methods.interface import Networks, Prediction, Predictor, TeacherMethod
from methods.teachers.deterministic import energy
from models.inference import outputs_of
from training.compute import Compute
from uncertainty.any_network import sampler_of
from uncertainty.mc_dropout import Plan, samples_of


def predictor(networks: Networks, train: Dataset, settings: Evaluation, seed: int, compute: Compute) -> Predictor:
    """T = `settings.passes` samples of each image."""
    sampler = sampler_of(networks[0])

    def predict(images: Tensor, name: str) -> Prediction:
        key = (seed, "predict", name)
        plan = Plan(settings.passes, settings.masks, settings.group_size, key, settings.stratified)
        with compute.autocast():
            samples = samples_of(sampler, images.to(compute.device), plan)
        return Prediction(samples, {"energy": energy(outputs_of(networks[0], images, compute).cpu())})

    return predict


METHOD = TeacherMethod(predictor, lambda networks: 2 * (sampler_of(networks[0]),))
