"""The loop: exact resumption, and what it does when things go wrong."""

import json
import os
import platform
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import TINY
from torch import nn
from training.cli import parse

import data
import evaluate
import train_student
import train_teacher
from configs.errors import UserError
from configs.schema import Augmentation, Config
from data.dataset import Dataset
from methods.student import load_student
from methods.teacher import load_teacher
from models.contract import Network
from train_teacher import classification_task
from training import artifact, loop
from training.bar import progress_bar
from training.compute import choose
from training.run import Run, begin
from uncertainty.dirichlet import Dirichlet


def weights(config, stage: str = "teacher") -> dict[str, torch.Tensor]:
    return artifact.load(config.folder / f"{stage}.safetensors", stage)[0]


class Stop(Exception):
    """Stands for Ctrl-C."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run whose teacher and student are trained."""
    config, _ = parse([*TINY, "--runs", str(tmp_path_factory.mktemp("finished"))])
    train_teacher.main(config, overwrite=False)
    train_student.main(config, overwrite=False)
    return config.folder


@pytest.fixture
def trained(tiny, finished) -> Config:
    """The tiny experiment, in a copy of a run whose teacher and student are trained."""
    shutil.copytree(finished, tiny.folder)
    return tiny


@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_an_interrupted_stage_ends_with_the_same_weights(trained, monkeypatch, stage):
    script = {"teacher": train_teacher, "student": train_student}[stage]
    whole = weights(trained, stage)
    checks = 0

    def interrupt(loss):
        nonlocal checks
        checks += 1
        if checks == 6:  # in the third epoch: there are two checks in each
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_require_finite", interrupt)
        with pytest.raises(Stop):
            script.main(trained, overwrite=True)
    assert all(torch.equal(whole[name], value) for name, value in weights(trained, stage).items())  # the old file stays
    torch.manual_seed(1234)
    script.main(trained, overwrite=True)
    assert "continues after epoch 2" in (trained.folder / "log.txt").read_text()
    resumed = weights(trained, stage)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_finished_stage_is_skipped_other_settings_are_refused_and_overwrite_starts_anew(tiny):
    train_teacher.main(tiny, overwrite=False)
    path = tiny.folder / "teacher.safetensors"
    written = path.stat().st_mtime_ns
    train_teacher.main(tiny, overwrite=False)
    assert path.stat().st_mtime_ns == written
    config = path.with_name("config.yaml").read_text()
    tiny.teacher.lr = 0.02
    with pytest.raises(UserError, match=r"teacher.lr: 0.005 there, 0.02 asked for"):
        train_teacher.main(tiny, overwrite=False)
    path.unlink()  # as if the training had not been finished
    with pytest.raises(UserError, match=r"checkpoints/teacher.safetensors was made with other settings"):
        train_teacher.main(tiny, overwrite=False)
    assert path.with_name("config.yaml").read_text() == config
    train_teacher.main(tiny, overwrite=True)
    assert path.stat().st_mtime_ns > written and path.with_name("config.yaml").read_text() != config


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_epoch(tiny, monkeypatch):
    epochs = iter([1.0, float("nan")])
    original = loop._train_epoch

    def spoiled(model, *rest):
        factor = next(epochs)
        for parameter in model.parameters():
            parameter.data.mul_(factor)
        return original(model, *rest)

    monkeypatch.setattr(loop, "_train_epoch", spoiled)
    with pytest.raises(UserError, match="not finite"):
        train_teacher.main(tiny, overwrite=False)
    tensors, metadata = artifact.load(tiny.folder / "checkpoints/teacher.safetensors", "checkpoint")
    assert len(metadata["history"]) == 1
    assert all(value.isfinite().all() for name, value in tensors.items() if name.startswith("model."))


def test_the_best_epoch_is_kept_and_the_last_one_with_train_on_all(trained):
    tensors, metadata = artifact.load(trained.folder / "checkpoints/teacher.safetensors", "checkpoint")
    scores = [row["validation_score"] for row in metadata["history"]]
    assert metadata["best"] == max(scores)
    trained.name, trained.teacher.train_on_all = "all", True
    train_teacher.main(trained, overwrite=False)
    tensors, metadata = artifact.load(trained.folder / "checkpoints/teacher.safetensors", "checkpoint")
    assert metadata["best"] is None
    assert all(torch.equal(value, tensors[f"model.{name}"]) for name, value in weights(trained).items())


def test_weight_decay_spares_batch_norm_and_biases():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Linear(2, 2))
    decayed, others = loop.decay_groups(model.parameters(), 0.1)
    assert [p.ndim for p in decayed["params"]] == [4, 2] and decayed["weight_decay"] == 0.1
    assert len(others["params"]) == 4 and others["weight_decay"] == 0


def test_shuffled_gives_every_index_at_most_once_in_whole_batches():
    batches = loop.shuffled(10, 4, seed=0)
    assert [len(batch) for batch in batches] == [4, 4]
    assert len(set(torch.cat(batches).tolist())) == 8
    assert not torch.equal(batches[0], loop.shuffled(10, 4, seed=1)[0])
    assert [len(batch) for batch in loop.shuffled(3, 100, seed=0)] == [3]


def test_students_of_another_run_share_teacher_and_samples_and_nothing_else(trained):
    first = weights(trained, "student")
    trained.name, trained.teacher_of, trained.student.seed = "another seed", trained.name, 1
    train_teacher.main(trained, overwrite=False)  # has nothing to do
    train_student.main(trained, overwrite=False)
    assert not (trained.folder / "teacher.safetensors").exists() and not (trained.folder / "mc_samples").exists()
    assert not torch.equal(weights(trained, "student")["network.conv1_1.weight"], first["network.conv1_1.weight"])
    assert type(load_student(trained.folder)(torch.zeros(2, 8, 8, 1, dtype=torch.uint8))) is Dirichlet


@pytest.mark.parametrize("method", ["end", "hydra", "logit_gaussian"])
def test_an_ensemble_goes_through_all_stages_as_dropout_does(tiny, no_plots, method):
    tiny.teacher = replace(tiny.teacher, method="ensemble", members=2, conv_dropout=0.0, head_dropout=0.0, epochs=2)
    tiny.sampling = replace(tiny.sampling, passes=2, masks="function")
    tiny.evaluation = replace(tiny.evaluation, passes=2, speed_passes=2)
    tiny.student = replace(tiny.student, method=method, options={"heads": 2} if method == "hydra" else None, epochs=1)
    for script in (train_teacher, train_student, evaluate):
        script.main(tiny, overwrite=False)
    assert sorted(path.parent.name for path in tiny.folder.glob("*/teacher.safetensors")) == [
        f"member{k}" for k in range(4)
    ]
    first, other = (artifact.load(tiny.folder / f"member{k}/teacher.safetensors", "teacher") for k in (0, 1))
    assert first[1]["settings"]["data"] == other[1]["settings"]["data"]  # one split
    assert not torch.equal(first[0]["conv1_1.weight"], other[0]["conv1_1.weight"])
    metrics = json.loads((tiny.folder / "metrics.json").read_text())
    assert (metrics["agreement"]["digits"]["total_variance"]["pearson"] is None) == (method == "end")
    assert metrics["agreement"]["digits"]["predictive_entropy"]["pearson"] > 0.1


def test_a_teacher_without_samples_has_no_student(trained):
    (trained.folder / "student.safetensors").unlink()
    trained.teacher.method = "ddu"
    with pytest.raises(UserError, match="teacher.method: ddu gives no samples"):
        train_student.main(trained, overwrite=False)


def test_averaged_weights_are_the_moving_average(tiny, monkeypatch):
    seen = []
    original = torch.optim.SGD.step

    def step(self, *arguments):
        result = original(self, *arguments)
        seen.append(self.param_groups[0]["params"][0].detach().clone())
        return result

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    model = torch.nn.Linear(3, 1)
    run, compute = begin(tiny, "teacher")
    tiny.teacher.epochs = 2
    data = torch.randn(40, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def losses(model, batch):
        return {"loss": model(batch).square().mean()}

    tiny.teacher.batch_size = 8
    task = loop.Task(model, optimizer, 40, lambda indices, epochs: data[indices], losses, tiny.teacher, averaging=0.4)
    loop.fit(task, run, compute, {})
    average = seen[0]
    for weight in seen[1:]:
        average = 0.75 * average + 0.25 * weight  # 1 / (0.4 · 10 steps)
    torch.testing.assert_close(model.weight.detach(), average)


def test_networks_kept_in_half_precision_are_the_ones_that_are_used(tiny, no_plots):
    tiny.weights = "float16"
    train_teacher.main(tiny, overwrite=False)
    train_student.main(tiny, overwrite=False)
    evaluate.main(tiny, overwrite=False)
    for stage in ("teacher", "student"):
        assert {value.dtype for value in weights(tiny, stage).values()} == {torch.float16, torch.int64}
    network = load_teacher(tiny, choose(tiny.device, tiny.dtype)).network
    assert all(torch.equal(value, weights(tiny)[name].to(value.dtype)) for name, value in network.state_dict().items())
    with pytest.raises(UserError, match="large is too large for float16"):
        artifact.save(tiny.folder / "x.safetensors", "teacher", {"large": torch.tensor([7e4])}, {}, "float16")


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 12])
def test_short_trainings_have_a_schedule_that_rises_and_falls(tiny, steps):
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    state = loop._start(loop.Task(model, optimizer, 1, None, None, tiny.teacher), steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        state.schedule.step()
    assert all(0 < rate <= 0.5 for rate in rates)
    assert steps < 3 or (max(rates) > 0.45 and rates[0] < 0.1 and rates[-1] < 0.5)


def test_the_batch_size_fits_the_set():
    assert [loop.fitting_batch(count) for count in (10, 162, 1297, 4000, 50_000)] == [32, 32, 64, 128, 256]


def test_of_epochs_with_equal_scores_the_one_of_lower_loss_is_best():
    epochs = ((0.8, 1.0), (0.9, 0.5), (0.9, 0.4), (0.9, 0.4), (0.8, 0.1))
    rows = [{"validation_score": score, "validation_loss": loss} for score, loss in epochs]
    assert [loop.is_best(rows[: i + 1]) for i in range(5)] == [True, True, True, False, False]


def test_bars_outside_a_terminal_are_lines(capsys, monkeypatch):
    monkeypatch.setattr("training.bar.EVERY_S", 0.0)
    with progress_bar(desc="work", total=3, unit="step") as bar:
        for _ in range(3):
            bar.update()
    written = capsys.readouterr().err
    assert "\r" not in written and written.splitlines()[-1].startswith("work: 100%")


# Nothing lost, nothing wrong.


def test_an_overwrite_that_fails_leaves_the_finished_files_as_they_are(trained, monkeypatch):
    before = {path: path.read_bytes() for path in trained.folder.glob("*.safetensors")}
    monkeypatch.setattr(loop, "_train_epoch", lambda *arguments: (_ for _ in ()).throw(FloatingPointError))
    for script in (train_teacher, train_student):
        with pytest.raises(UserError, match="the loss is not finite"):
            script.main(trained, overwrite=True)
    trained.student.options = {"rank": 2, "nonsense": 1}
    with pytest.raises(UserError, match="unknown key nonsense"):
        train_student.main(trained, overwrite=True)
    trained.teacher.conv_dropout = [0.1]
    with pytest.raises(UserError, match="teacher.conv_dropout: 1 rates for the 3 places of vgg5"):
        train_teacher.main(trained, overwrite=True)
    assert {path: path.read_bytes() for path in trained.folder.glob("*.safetensors")} == before


def test_an_overwrite_with_other_settings_starts_anew_and_the_next_one_as_well(trained):
    trained.teacher.lr = 0.004
    for _ in range(2):
        written = (trained.folder / "teacher.safetensors").stat().st_mtime_ns
        train_teacher.main(trained, overwrite=True)
        assert (trained.folder / "teacher.safetensors").stat().st_mtime_ns > written
    assert "continues" not in (trained.folder / "log.txt").read_text()


@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_an_overwrite_that_is_cut_after_its_file_was_written_does_not_hinder_the_next_one(trained, monkeypatch, stage):
    script = {"teacher": train_teacher, "student": train_student}[stage]
    with monkeypatch.context() as patch:
        patch.setattr(Run, "end", lambda self: (_ for _ in ()).throw(Stop))
        with pytest.raises(Stop):
            script.main(trained, overwrite=True)
    path = trained.folder / f"{stage}.safetensors"
    times = [path.stat().st_mtime_ns]
    for _ in range(2):
        script.main(trained, overwrite=True)
        times.append(path.stat().st_mtime_ns)
    assert times[1] == times[0] and times[2] > times[1]  # the first goes on, and has nothing left to do


@pytest.mark.parametrize("data", [{"split_seed": 5}, {"validation": 300}, {"size": 16}])
def test_a_student_of_other_images_than_its_teachers_is_refused(trained, data):
    trained.data = replace(trained.data, **data)
    for script in (train_student, evaluate):
        with pytest.raises(UserError, match=f"{list(data)[0]}: .* there, {list(data.values())[0]} asked for"):
            script.main(trained, overwrite=False)


def test_replaced_training_images_are_refused_or_asked_for(tiny, no_plots, monkeypatch):
    train_teacher.main(tiny, overwrite=False)
    load = data.load_train

    def brighter(*arguments):
        train, validation = load(*arguments)
        return replace(train, pixels=train.images // 2, order=None), validation

    monkeypatch.setattr(data, "load_train", brighter)
    with pytest.raises(UserError, match="the training images are not those that the teacher was trained on"):
        train_student.main(tiny, overwrite=False)
    tiny.student.other_images = True
    train_student.main(tiny, overwrite=False)
    assert "1147 images of digits; the teacher was trained on other images (" in (tiny.folder / "log.txt").read_text()
    evaluate.main(tiny, overwrite=False)
    settings = [
        artifact.load(tiny.folder / f"{kind}.safetensors", kind)[1]["settings"]["data"]
        for kind in ("teacher", "student")
    ]
    assert settings[0] != settings[1]
    assert json.loads((tiny.folder / "metrics.json").read_text())["provenance"]["teacher_data"] == settings[0]


def test_a_run_does_not_look_at_another(tiny):
    """Students were taken over from any run beside, once."""
    sibling = tiny.folder.parent / "other"
    sibling.mkdir(parents=True)
    for name in ("teacher.safetensors", "student.safetensors", "config.yaml"):
        (sibling / name).write_bytes(b"damaged")
    tiny.teacher.epochs = tiny.student.epochs = 1
    for script in (train_teacher, train_student):
        script.main(tiny, overwrite=False)
    tiny.teacher_of = "nobody"
    with pytest.raises(UserError, match="nobody/teacher.safetensors: no such file"):
        train_teacher.main(tiny, overwrite=False)


def test_two_that_write_one_file_at_once_do_not_meet(tmp_path, monkeypatch):
    path, write = tmp_path / "x.safetensors", artifact.save_file

    def slow(*arguments):
        write(*arguments)
        monkeypatch.setattr(artifact, "save_file", write)
        artifact.save(path, "teacher", {"weight": torch.ones(2)}, {"by": "the second"})
        assert artifact.load(path, "teacher")[1] == {"by": "the second"}

    monkeypatch.setattr(artifact, "save_file", slow)
    artifact.save(path, "teacher", {"weight": torch.zeros(2)}, {"by": "the first"})
    tensors, metadata = artifact.load(path, "teacher")
    assert (
        metadata == {"by": "the first"}
        and torch.equal(tensors["weight"], torch.zeros(2))
        and list(tmp_path.iterdir()) == [path]
    )


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    done, rename = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda _: done.append("fsync"))
    monkeypatch.setattr(os, "replace", lambda *paths: done.append("replace") or rename(*paths))
    artifact.write_json(tmp_path / "x.json", {})
    artifact.save(tmp_path / "x.safetensors", "teacher", {}, {})
    assert done == ["fsync", "replace"] * 2


def test_every_flipped_bit_of_a_header_is_noticed(tmp_path):
    path = tmp_path / "x.safetensors"
    artifact.save(path, "teacher", {"weight": torch.arange(3.0)}, {"rate": 0.5, "name": "é", "large": 1e-5})
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(UserError, match="x.safetensors"):
            artifact.load(path, "teacher")
    path.write_bytes(content)
    with pytest.raises(UserError, match="this file holds a teacher, not a student"):
        artifact.load(path, "student")


def test_what_was_killed_while_it_wrote_leaves_nothing_behind(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(ZeroDivisionError):
        with artifact.replacing(path) as temporary:
            temporary.write_text("half")
            1 / 0
    assert not list(tmp_path.iterdir())
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / f".x.json.{platform.node()}-{dead.pid}.abc.tmp").write_text("half")
    (tmp_path / f".x.json.{platform.node()}-{os.getpid()}.abc.tmp").write_text("a living process's")
    artifact.write_json(path, {"a": 1})
    assert sorted(other.name for other in tmp_path.iterdir()) == [
        f".x.json.{platform.node()}-{os.getpid()}.abc.tmp",
        "x.json",
    ]


def test_alternating_flips_show_each_image_both_ways_in_two_epochs(tiny):
    tiny.data.augmentation = Augmentation(flip="alternating", crop=0)
    images = torch.randint(0, 256, (64, 8, 8, 1), dtype=torch.uint8)
    dataset = Dataset("toy", images, torch.zeros(64, dtype=torch.long), [""] * 64, ["a", "b"])
    seen = []

    class Camera(Network):
        def forward(self, images):
            seen.append(images.clone())
            return super().forward(images / 255)

    model = Camera(nn.Flatten(), nn.Linear(64, 2))
    task = classification_task(model, dataset, None, tiny, choose("cpu", "float32"))
    for epochs in (0.0, 0.9, 1.0, 2.5):
        task.losses(model, task.batch(torch.arange(64), epochs))
    first, still_first, second, third = seen
    assert torch.equal(first, still_first) and torch.equal(second, first.flip(2)) and torch.equal(third, first)
    assert 16 < sum(torch.equal(a, b) for a, b in zip(first, images)) < 48
