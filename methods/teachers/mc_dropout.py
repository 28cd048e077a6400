"""MC-dropout (Gal & Ghahramani 2016): T passes with dropout on, each a sample. The teacher of this project."""

from torch import Tensor

from data.dataset import Dataset
from methods.interface import Networks, Prediction, Predictor, TeacherMethod
from training.run import Run
from uncertainty.mc_dropout import Plan, Sampler, samples_of


def predictor(networks: Networks, train: Dataset, run: Run) -> Predictor:
    """T = `evaluation.speed_passes` samples of each image."""
    settings, sampler = run.config.evaluation, Sampler(networks[0])

    def predict(images: Tensor) -> Prediction:
        plan = Plan(settings.speed_passes, settings.masks, settings.group_size, (run.config.seed, "predict"))
        with run.autocast():
            return Prediction(samples_of(sampler, images.to(run.device), plan, settings.batch_size))

    return predict


METHOD = TeacherMethod(predictor, lambda networks: Sampler(networks[0]))
