"""What a config leaves open is chosen from the data, in the same way in every stage."""

import pytest
import yaml

import evaluate
import train_student
import train_teacher
from configs import recipe
from configs.errors import UserError
from configs.schema import StudentSettings, TeacherSettings
from training import artifact


@pytest.mark.parametrize("count", [40, 225, 900, 4_500, 45_000])
@pytest.mark.parametrize("size", [32, 64, 65, 224])
def test_few_images_get_many_steps_and_many_images_few_epochs(count, size):
    chosen = recipe.for_teacher(TeacherSettings(), count, size)
    assert None not in [getattr(chosen, name) for name in recipe.OPEN[TeacherSettings]]
    seen = chosen.epochs * count
    assert seen <= max(40_100, 10 * count) and (seen >= 39_000 or chosen.epochs == 60)
    assert 32 <= chosen.batch_size <= max(32, count / 20)
    assert chosen.network == ("vgg7" if size <= 64 else "resnet18") and chosen.lr < 0.1
    student = recipe.for_student(StudentSettings(), count)
    assert (student.epochs, student.batch_size) == (chosen.epochs, chosen.batch_size)


@pytest.mark.parametrize(
    "name, value, others", [("network", "vgg5", {"width": 1.0}), ("width", 0.3, {}), ("lr", 0.3, {}), ("epochs", 3, {})]
)
def test_a_setting_that_is_named_overrules_and_leaves_the_others(name, value, others):
    free = recipe.for_teacher(TeacherSettings(), 500, 64)
    named = recipe.for_teacher(TeacherSettings(**{name: value}), 500, 64)
    changed = {key for key in recipe.OPEN[TeacherSettings] if getattr(free, key) != getattr(named, key)}
    assert getattr(named, name) == value and changed == {name, *others}


def test_all_stages_agree_on_what_is_left_open(tiny, no_plots, monkeypatch):
    monkeypatch.setattr(recipe, "epochs_of", lambda count: 2)
    tiny.teacher = TeacherSettings(network="vgg5", width=0.125)
    tiny.student = StudentSettings()
    for script in (train_teacher, train_student, evaluate):
        script.main(tiny, overwrite=False)
        written = yaml.safe_load((tiny.folder / "config.yaml").read_text())
        assert [written["teacher"][key] for key in ("lr", "epochs", "batch_size")] == [0.02, 2, 32]
    assert (written["student"]["epochs"], written["student"]["batch_size"]) == (2, 32)
    assert "batch_size 32" in (tiny.folder / "log.txt").read_text()
    assert artifact.load(tiny.folder / "student.safetensors", "student")[1]["settings"]["student"]["epochs"] == 2
    tiny.student.epochs = 3  # named, and not what was trained
    with pytest.raises(UserError, match="student.epochs: 2 there, 3 asked for"):
        evaluate.main(tiny, overwrite=False)
