"""MC-dropout (Gal & Ghahramani 2016): T passes with dropout on, each a sample. The teacher of this project."""

from collections.abc import Iterator

from torch import Tensor

from configs.run import Run
from data.dataset import Dataset
from models.methods.interface import Networks, Prediction, Predictor, TeacherMethod
from uncertainty import mc_dropout
from uncertainty.mc_dropout import Plan


def sample(networks: Networks, *arguments) -> Iterator[tuple[int, Tensor, Tensor]]:
    """`uncertainty.mc_dropout.sample` of the one network."""
    return mc_dropout.sample(networks[0], *arguments)


def predictor(networks: Networks, train: Dataset, run: Run) -> Predictor:
    """T = `evaluation.speed_passes` samples of each image."""
    settings = run.config.evaluation

    def predict(images: Tensor) -> Prediction:
        plan = Plan(settings.speed_passes, settings.masks, settings.group_size, (run.config.seed, "predict"))
        with run.autocast():
            return Prediction(mc_dropout.samples_of(networks[0], images.to(run.device), plan, settings.batch_size))

    return predict


METHOD = TeacherMethod(predictor, sample)
