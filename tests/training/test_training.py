"""Trainings: exact resumption, and what they do when things go wrong."""

from dataclasses import replace
from io import StringIO
from unittest.mock import Mock

import pytest
import torch
from conftest import after_each_step, random_images, run_stages, weights_of

import data
import evaluate
import train_student
import train_teacher
from configs.errors import UserError
from data.views import by_view
from methods.student import load_student
from methods.teacher import load_teacher
from training import artifact
from training.bar import Lines
from training.compute import choose
from training.run import Run, difference
from uncertainty.dirichlet import Dirichlet

SCRIPTS = {"teacher": train_teacher, "student": train_student}


def checkpoint_of(config):
    return artifact.load(config.folder / "checkpoints/teacher.safetensors", "checkpoint")


@pytest.mark.parametrize("stage", SCRIPTS)
def test_an_interrupted_stage_ends_with_the_same_weights(trained, stage):
    whole = weights_of(trained, stage)
    stop = Mock(side_effect=[*39 * [None], KeyboardInterrupt])  # in the third epoch
    with after_each_step(stop), pytest.raises(KeyboardInterrupt):
        SCRIPTS[stage].main(trained, overwrite=True)
    torch.manual_seed(1234)
    SCRIPTS[stage].main(trained, overwrite=True)
    assert "continues after epoch 2" in (trained.folder / "log.txt").read_text()
    torch.testing.assert_close(weights_of(trained, stage), whole, rtol=0, atol=0)


def test_a_finished_stage_is_skipped_other_settings_are_refused_and_overwrite_starts_anew(trained):
    def state():
        return (trained.folder / "teacher.safetensors").stat().st_mtime_ns, (trained.folder / "config.yaml").read_text()

    written = state()[0]
    train_teacher.main(trained, overwrite=False)
    before = state()
    trained.teacher.lr = 0.02
    with pytest.raises(UserError, match=r"teacher.lr: 0.005 there, 0.02 asked for"):
        train_teacher.main(trained, overwrite=False)
    assert state() == before and before[0] == written
    train_teacher.main(trained, overwrite=True)
    assert state()[0] > before[0] and state()[1] != before[1]
    # as an ensemble's networks of an --overwrite that was interrupted, by one with other settings
    assert not Run(trained.folder, "teacher", "").finished("teacher.safetensors", {"seed": 7}, overwrite=True)
    assert not (trained.folder / "teacher.safetensors").exists()


def spoilt_at(step: int):
    """From this step on a weight is not finite."""

    def spoil(number, optimizer):
        if number == step:
            optimizer.param_groups[0]["params"][0].data.fill_(torch.nan)

    return after_each_step(spoil)


def test_an_overwrite_that_fails_leaves_the_finished_files_as_they_are(trained):
    before = {path: path.read_bytes() for path in trained.folder.glob("*.safetensors")}
    for script in SCRIPTS.values():
        with spoilt_at(1), pytest.raises(UserError, match="the loss is not finite"):
            script.main(trained, overwrite=True)
    assert {path: path.read_bytes() for path in trained.folder.glob("*.safetensors")} == before


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_epoch(tiny):
    with spoilt_at(20), pytest.raises(UserError, match="not finite"):  # in the second epoch
        train_teacher.main(tiny, overwrite=False)
    tensors, metadata = checkpoint_of(tiny)
    assert len(metadata["history"]) == 1
    assert all(value.isfinite().all() for value in tensors.values())


def test_the_best_epoch_is_kept_and_the_last_one_with_train_on_all(trained):
    assert all("validation_score" in row for row in checkpoint_of(trained)[1]["history"])
    trained.name, trained.teacher.train_on_all, trained.teacher.epochs = "all", True, 2
    train_teacher.main(trained, overwrite=False)
    tensors, metadata = checkpoint_of(trained)
    assert not any("validation_score" in row for row in metadata["history"])
    assert all(torch.equal(value, tensors[f"model.{name}"]) for name, value in weights_of(trained).items())


def test_students_of_another_run_share_teacher_and_samples_and_nothing_else(trained):
    first = weights_of(trained, "student")
    trained.name, trained.teacher_of, trained.student.seed = "another seed", trained.name, 1
    run_stages(trained, "teacher", "student")  # the teacher has nothing to do
    assert not (trained.folder / "teacher.safetensors").exists() and not (trained.folder / "mc_samples").exists()
    assert not torch.equal(weights_of(trained, "student")["network.conv1_1.weight"], first["network.conv1_1.weight"])
    assert type(load_student(trained.folder)(torch.zeros(2, 8, 8, 1, dtype=torch.uint8))) is Dirichlet
    (folder := trained.source / "reference").mkdir()
    evaluate.main(trained, overwrite=True)  # which leaves the samples of the other run's evaluations
    assert folder.exists() and not folder.with_name("reference.old").exists() and any(folder.iterdir())
    trained.teacher_of = "nobody"
    with pytest.raises(UserError, match="nobody/teacher.safetensors: no such file"):
        train_student.main(trained, overwrite=False)


def test_an_ensemble_goes_through_all_stages_as_dropout_does(tiny, no_plots):
    tiny.teacher = replace(tiny.teacher, method="ensemble", members=2, conv_dropout=0.0, head_dropout=0.0, epochs=2)
    tiny.sampling = replace(tiny.sampling, passes=2, masks="function")
    tiny.evaluation = replace(tiny.evaluation, passes=2)
    tiny.student = replace(tiny.student, method="hydra", options={"heads": 2}, epochs=1)
    run_stages(tiny)
    members = [artifact.load(tiny.folder / f"member{k}/teacher.safetensors", "teacher") for k in range(4)]
    assert members[0][1]["settings"]["data"] == members[1][1]["settings"]["data"]  # one split
    assert not torch.equal(members[0][0]["conv1_1.weight"], members[1][0]["conv1_1.weight"])
    metrics = artifact.read_json(tiny.folder / "metrics.json")
    assert metrics["agreement"]["digits"]["predictive_entropy"]["pearson"] > 0.1
    with pytest.raises(UserError, match="is an ensemble"):
        load_teacher(tiny, choose("cpu", "float32"))(random_images(2, 8, 8))


def test_no_image_is_shown_twice_in_a_view_before_it_has_been_shown_in_all(trained, monkeypatch):
    spy = Mock(side_effect=by_view)
    monkeypatch.setattr(train_student, "by_view", spy)
    trained.sampling = replace(trained.sampling, views=3 * ["plain"] + 3 * ["augmented"], passes=2)
    trained.student.epochs = 6
    train_student.main(trained, overwrite=True)
    files = {path.name.split("x")[0] for path in (trained.folder / "mc_samples").glob("digits-train-*x2-*")}
    assert files == {f"digits-train-{kind}-{number}" for kind in ("plain", "augmented") for number in range(3)}
    shown = [torch.stack(call.args, 1) for call in spy.call_args_list]
    assert all(of_batch[:, 1].unique().diff().tolist() == [3] for of_batch in shown)  # one of each kind
    shown = torch.cat(shown)
    assert len(shown.unique(dim=0)) == len(shown) and shown[:, 1].max() == 5


@pytest.mark.parametrize("data", [{"split_seed": 5}, {"validation": 300}, {"size": 16}])
def test_a_student_of_other_images_than_its_teachers_is_refused(trained, data):
    trained.data = replace(trained.data, **data)
    for script in (train_student, evaluate):
        with pytest.raises(UserError, match=f"{list(data)[0]}: .* there, {list(data.values())[0]} asked for"):
            script.main(trained, overwrite=False)


def test_replaced_training_images_are_refused_or_asked_for(trained, no_plots, monkeypatch):
    train, validation = data.load_train(trained.data, trained.split_seed)
    monkeypatch.setattr(data, "load_train", lambda *_: (train.subset(torch.arange(500)), validation))
    trained.name, trained.teacher_of, trained.student.epochs = "other", trained.name, 1
    with pytest.raises(UserError, match="the training images are not those that the teacher was trained on"):
        train_student.main(trained, overwrite=False)
    trained.student.other_images = True
    train_student.main(trained, overwrite=False)
    assert "the teacher was trained on other images" in (trained.folder / "log.txt").read_text()


def test_every_flipped_bit_of_a_header_is_noticed(tmp_path):
    path = tmp_path / "x.safetensors"
    artifact.save(path, "teacher", {"weight": torch.arange(3.0)}, {"rate": 0.5, "name": "é", "large": 1e-5})
    content = path.read_bytes()
    for bit in range(0, 8 * len(content), 3):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(UserError, match="x.safetensors"):
            artifact.load(path, "teacher")
    path.write_bytes(content)
    with pytest.raises(UserError, match="this file holds a teacher, not a student"):
        artifact.load(path, "student")


def test_tied_weights_are_saved_each(tmp_path):
    weight = torch.arange(6.0).view(2, 3)
    artifact.save(tmp_path / "x.safetensors", "teacher", {"first": weight, "last": weight, "row": weight[0]}, {})
    found, _ = artifact.load(tmp_path / "x.safetensors", "teacher")
    torch.testing.assert_close([found["first"], found["last"], found["row"]], [weight, weight, weight[0]])


def test_outside_a_terminal_a_state_of_a_bar_is_a_line():
    stream = StringIO()
    for text in ("\r", "\x1b[AAnimals:  50%", "\n"):
        Lines(stream).write(text)
    assert stream.getvalue() == "Animals:  50%\n"


def test_a_setting_that_one_version_lacks_is_the_same_as_off():
    assert not difference({"teacher": {"lr": 1, "gone": False}}, {"teacher": {"lr": 1, "newer": None}})
    assert difference({"gone": True}, {}) and difference({}, {"newer": 0.5}) and difference({"lr": False}, {"lr": None})
