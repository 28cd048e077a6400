"""MC-dropout (Gal & Ghahramani 2016): T passes with dropout on, each a sample. The teacher of this project.

Beside it, the energy score of one pass without dropout. `stratified_dropout` is MC-dropout with few passes that
complement each other (docs/method.md), for whoever has no student.
"""

from functools import partial

from torch import Tensor

from configs.schema import Evaluation
from data.dataset import Dataset
from methods.interface import Networks, Prediction, Predictor, TeacherMethod
from methods.teachers.deterministic import energy
from models.inference import outputs_of
from training.compute import Compute
from uncertainty.any_network import sampler_of
from uncertainty.mc_dropout import Plan, samples_of

FEW = 16  # stratified passes


def predictor(
    networks: Networks, train: Dataset, settings: Evaluation, seed: int, compute: Compute, stratified: bool = False
) -> Predictor:
    """Samples of `settings.passes` passes, or of FEW stratified ones."""
    sampler = sampler_of(networks[0])
    passes = FEW if stratified else settings.passes

    def predict(images: Tensor, name: str) -> Prediction:
        plan = Plan(passes, settings.masks, settings.group_size, (seed, "predict", name), int(stratified))
        with compute.autocast():
            samples = samples_of(sampler, images.to(compute.device), plan)
        return Prediction(samples, {"energy": energy(outputs_of(networks[0], images, compute).cpu())})

    return predict


STRATIFIED = TeacherMethod(partial(predictor, stratified=True))
METHOD = TeacherMethod(predictor, lambda networks: 2 * (sampler_of(networks[0]),))
