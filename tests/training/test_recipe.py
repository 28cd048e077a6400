"""What a config leaves open is chosen from the data, in the same way in every stage."""

import pytest
from conftest import STAGES

import evaluate
from configs import recipe
from configs.cli import config_of_run
from configs.errors import UserError
from configs.schema import StudentSettings, TeacherSettings


@pytest.mark.parametrize("count, size", [(40, 224), (225, 64), (900, 65), (4_500, 32), (45_000, 32)])
def test_few_images_get_many_epochs_and_what_is_named_stays(count, size):
    chosen = recipe.for_teacher(TeacherSettings(), count, size)
    assert chosen.network == ("vgg7" if size <= 64 else "resnet18")
    seen = 200_000 if size == 32 else 50_000
    assert chosen.epochs in (10, 100) or chosen.epochs * count == pytest.approx(seen, rel=0.02)
    named = {"network": "vgg5", "lr": 0.3, "epochs": 3}
    expected = TeacherSettings(**named, width=1.0, batch_size=chosen.batch_size)
    assert recipe.for_teacher(TeacherSettings(**named), count, size) == expected


def test_all_stages_agree_on_what_is_left_open(tiny, no_plots, monkeypatch):
    monkeypatch.setattr(recipe, "epochs_of", lambda count, size: 2)
    tiny.teacher, tiny.student = TeacherSettings(network="vgg5", width=0.125), StudentSettings()
    for stage in STAGES.values():
        stage.main(tiny, overwrite=False)
        made = config_of_run(tiny.folder)
        assert (made.teacher.lr, made.teacher.epochs, made.teacher.batch_size) == (0.02, 2, 32)
    assert (made.student.epochs, made.student.batch_size) == (2, 32)
    tiny.teacher.epochs = 4  # named, and not what was trained
    with pytest.raises(UserError, match="teacher.epochs: 2 there, 4 asked for"):
        evaluate.main(tiny, overwrite=False)
