"""The scripts as a user calls them, on a tiny experiment: files, shape of metrics.json, predictions, tables."""

import csv
import json
import math
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import TINY
from PIL import Image
from scipy.stats import dirichlet

import data
import evaluate
import train_student
import train_teacher
from configs.cli import parse
from configs.schema import DataSet
from methods import prediction
from methods.student import Student, load_student
from plots.table import table
from uncertainty.distribution import MEASURES

RNG = np.random.default_rng(0)


def call(script: str, *options: str) -> int:
    """The exit code of a script that runs as `python script options` does, but in this process, which has imported
    everything. What it says is captured by `capsys`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *options])
        for stream in (sys.stdout, sys.stderr):
            patch.setattr(stream, "reconfigure", lambda **_: None, raising=False)
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            return end.code or 0
    return 0


def predict(*options: object) -> int:
    return call("predict.py", "--device", "cpu", *map(str, options))


def write_images(folder: Path, *images: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


def random_image(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def digits():
    config, _ = parse(TINY)
    return data.load(config.data.train, "test", config.data)


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits) -> Path:
    """A finished run, with labels by people who guess."""
    runs = tmp_path_factory.mktemp("runs")
    rows = [f"{i},{name}," + ",".join(map(str, RNG.integers(0, 9, 10))) for i, name in enumerate(digits.names)]
    (runs / "people.csv").write_text("\n".join([",".join(["test_index", "image", *digits.classes]), *rows]))
    for script in ("train_teacher.py", "train_student.py", "evaluate.py"):
        assert call(script, *TINY, "--runs", str(runs), "--evaluation.human_labels", str(runs / "people.csv")) == 0
    return runs / "digits"


@pytest.fixture(scope="module")
def metrics(run) -> dict:
    return json.loads((run / "metrics.json").read_text())


def test_a_run_leaves_what_the_readme_promises(run):
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {"config.yaml", "teacher.safetensors", "student.safetensors", "metrics.json", "table.md"} <= names
    assert {"log.txt", "predictions.csv", "report.html", "plots/teacher_against_student.png"} <= names
    assert "mc_samples/digits-train-mixup-0x4-stratified.safetensors" in names
    assert not [name for name in names if name.endswith((".tmp", ".partial"))]
    assert yaml.safe_load((run / "config.yaml").read_text())["teacher"]["lr"] == 0.005
    assert parse(["--config", str(run / "config.yaml")])[0].sampling.passes == 4


def test_a_stage_that_begins_and_one_that_is_skipped_are_one_line_each(run, capsys):
    for stage in ("teacher", "student"):
        assert (run / "log.txt").read_text().count(f"train_{stage}.py") == 1
        assert call(f"train_{stage}.py", *TINY, "--runs", str(run.parent)) == 0
        skipped = f"[{stage}] {run / stage}.safetensors is done already: skipped (--overwrite starts anew)\n"
        assert capsys.readouterr().out == skipped


def test_metrics_are_within_their_bounds(metrics):
    for who in ("teacher_deterministic", "teacher", "student"):
        assert 0 <= metrics[who]["accuracy"] <= 1 and metrics[who]["nll"] > 0
    assert list(metrics["agreement"]) == ["digits", "letters", "noise"] and list(metrics["ood"]) == ["letters", "noise"]
    for measure in MEASURES:
        for entry in metrics["agreement"].values():
            assert entry[measure]["reference_passes"] == 6 and -1 <= entry[measure]["pearson"] <= 1
        for who in ("teacher", "student"):
            assert all(0 <= entry[who][measure]["auroc"] <= 1 for entry in metrics["ood"].values())
            assert abs(metrics["humans"][who][measure]["spearman"]) < 0.2  # these people guess
    assert metrics["rejected"]["digits"]["teacher"]["total_variance"] == pytest.approx(0.05, abs=0.01)
    assert metrics["speed"]["ratio"] > 1 and all(seconds > 0 for seconds in metrics["stages_s"].values())


def test_a_student_of_another_teacher_is_not_evaluated_and_none_is_trained_without_one(run, tmp_path, capsys):
    assert call("evaluate.py", *TINY, "--runs", str(run.parent), "--teacher.lr", "0.01") == 2
    assert "teacher.lr: 0.005 there, 0.01 asked for" in capsys.readouterr().err
    command = [sys.executable, "train_student.py", *TINY, "--runs", str(tmp_path)]  # as users start it
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "run train_teacher.py" in done.stderr


@pytest.mark.parametrize("setting, value", [("evaluation.bootstrap", "51"), ("data.max_ood", "9")])
def test_an_evaluation_with_other_settings_is_refused_and_changes_no_file(run, capsys, setting, value):
    before = [(run / name).read_bytes() for name in ("metrics.json", "config.yaml")]
    for script in ("train_teacher.py", "train_student.py", "evaluate.py"):  # as run.sh calls them
        code = call(script, *TINY, "--runs", str(run.parent), f"--{setting}", value)
    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1 and f"{value} asked for" in said and "--overwrite" in said
    assert before == [(run / name).read_bytes() for name in ("metrics.json", "config.yaml")]


def test_sets_of_hardly_any_images_are_evaluated_and_what_is_not_defined_is_said(tiny, tmp_path, no_plots):
    """OOD sets of one image and of equal ones; one test image a class."""
    for name in ("$x$", "b_{"):
        write_images(tmp_path / "own/train" / name, *(random_image(8, 8) for _ in range(40)))
        write_images(tmp_path / "own/test" / name, random_image(8, 8))
    write_images(tmp_path / "one", random_image(8, 8))
    write_images(tmp_path / "equal", *5 * [np.full((8, 8), 9, np.uint8)])
    own, *ood = (DataSet(source="folder", root=str(tmp_path / name)) for name in ("own", "one", "equal"))
    tiny.data = replace(tiny.data, train=own, ood=ood, decoded=str(tmp_path / "decoded"), validation=0.2)
    tiny.teacher.epochs = tiny.student.epochs = 1
    for script in (train_teacher, train_student, evaluate):
        script.main(tiny, overwrite=False)
    written = json.loads((tiny.folder / "metrics.json").read_text())
    for name in ("one", "equal"):
        assert written["agreement"][name]["total_variance"]["pearson"] is None
        assert f"| {name}: total variance (epistemic) | **-** (-) | - |" in (tiny.folder / "table.md").read_text()


def test_predictions_are_those_that_the_metrics_are_computed_from(run, metrics):
    rows = list(csv.DictReader((run / "predictions.csv").open()))
    digits = [row for row in rows if row["set"] == "digits"]
    labels = np.array([int(row["label"]) for row in digits])
    for who, start in (("student", ""), ("teacher", "teacher ")):
        probs = np.array([[float(row[f"{start}p({c})"]) for c in range(10)] for row in digits])
        assert (probs.argmax(1) == labels).mean() == pytest.approx(metrics[who]["accuracy"])
        assert -np.log(probs[np.arange(len(labels)), labels]).mean() == pytest.approx(metrics[who]["nll"], rel=1e-4)
    for name, entry in metrics["agreement"].items():
        mine = [float(row["total_variance"]) for row in rows if row["set"] == name]
        assert np.mean(mine) == pytest.approx(entry["total_variance"]["student_mean"], rel=1e-4)
    alpha = [float(digits[0]["precision"]) * float(digits[0][f"p({c})"]) for c in range(10)]
    assert dirichlet.var(alpha).sum() == pytest.approx(float(digits[0]["total_variance"]), rel=1e-3)
    assert all(row["right"] == ("yes" if row["class"] == row["label"] else "no") for row in digits)


def test_predict_streams_a_folder_and_skips_what_is_broken(run, digits, tmp_path, capsys):
    test = [float(x["predictive_entropy"]) for x in csv.DictReader((run / "predictions.csv").open()) if x["label"]]
    expected_threshold = load_student(run).threshold
    assert expected_threshold == pytest.approx(np.quantile(test[: len(digits)], 0.95, method="inverted_cdf"), rel=1e-5)
    chosen = digits.images[np.argsort(test[: len(digits)])[[0, 50, 100, 150, -1]]]
    images = [image[..., 0].numpy() for image in chosen]
    photos = write_images(tmp_path / "photos", *images[:3])
    write_images(photos / "b", *images[3:])
    (photos / "c.jpg").write_bytes(b"broken")
    (photos / "notes.txt").write_text("no image")
    out = tmp_path / "out.csv"
    assert predict("--run", run, "--images", photos, "--out", out, "--report") == 0
    said = capsys.readouterr().out
    assert "1 broken images and 1 other files left out" in said and "c.jpg" in said
    rows = {row["image"].removeprefix(f"{photos}/"): row for row in csv.DictReader(out.open())}
    expected = load_student(run)(chosen)
    for i, name in enumerate(("0.png", "1.png", "2.png", "b/0.png", "b/1.png")):
        assert rows[name]["class"] == str(expected.predicted[i].item())
        found = float(rows[name]["mutual_information"])
        assert found == pytest.approx(expected.mutual_information[i].item(), rel=1e-3)
        assert sum(float(rows[name][f"p({c})"]) for c in range(10)) == pytest.approx(1, abs=1e-4)
        assert rows[name]["answer"] == ("yes" if expected.predictive_entropy[i] <= expected_threshold else "no")
    assert {"yes", "no"} == {row["answer"] for row in rows.values()}
    assert f'"predictive_entropy": {expected_threshold}' in out.with_suffix(".html").read_text()
    assert predict("--run", run, "--images", photos / "b/1.png", "--out", out) == 0
    assert [row["image"] for row in csv.DictReader(out.open())] == [str(photos / "b/1.png")]
    assert predict("--run", run, "--images", photos, "--out", out, "--teacher-passes", 4) == 0
    assert next(csv.DictReader(out.open()))["total_variance"]
    assert predict("--run", run, "--images", tmp_path / "none") == 2
    assert "error: --images: no folder" in capsys.readouterr().err


def test_predictions_that_fail_or_are_killed_leave_the_earlier_ones(run, tmp_path, monkeypatch, capsys):
    out, photos = tmp_path / "out.csv", tmp_path / "photos"
    photos.mkdir()
    (photos / "broken.png").write_bytes(b"broken")
    out.write_text("of yesterday")
    arguments = ["--run", run, "--images", photos, "--out", out]
    assert predict(*arguments) == 2 and "no readable image" in capsys.readouterr().err
    write_images(photos, random_image(8, 8), random_image(8, 8))
    forward, calls = Student.forward, []

    def cut(student, images):
        calls.append(images)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return forward(student, images)

    monkeypatch.setattr(Student, "forward", cut)
    monkeypatch.setattr(prediction, "BATCH", 1)
    assert predict(*arguments) == 130 and len(calls) == 2
    assert out.read_text() == "of yesterday" and sorted(tmp_path.iterdir()) == [out, photos]


def test_the_student_in_the_repository_predicts_at_once(tmp_path):
    photos = write_images(tmp_path / "photos", *(random_image(40, 60, 3) for _ in range(3)))
    assert predict("--run", "results/cifar10_cpu", "--images", photos, "--out", tmp_path / "out.csv") == 0
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert len(rows) == 3 and "p(airplane)" in rows[0] and all(float(row["total_variance"]) > 0 for row in rows)


@pytest.mark.parametrize("path", list(Path("results").glob("*/metrics.json")), ids=str)
def test_the_results_tables_are_what_their_metrics_say(path):
    metrics = json.loads(path.read_text())
    assert table(metrics) + "\n" == path.with_name("table.md").read_text()
    assert all(math.isfinite(value) for value in metrics["student"].values())
