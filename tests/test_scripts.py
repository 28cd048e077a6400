"""The scripts as a user calls them, on a tiny experiment: files, shape of metrics.json, predictions, tables."""

import csv
import json
import runpy
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from conftest import TINY, random_images, run_stages, save_images
from scipy.stats import dirichlet

import data
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


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open()))


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
    files = "teacher.safetensors student.safetensors metrics.json table.md log.txt predictions.csv report.html"
    assert {*files.split(), "plots/teacher_against_student.png"} <= names
    assert not [name for name in names if name.endswith((".tmp", ".partial"))]
    config = parse(["--config", str(run / "config.yaml")])[0]
    assert (config.teacher.lr, config.sampling.passes) == (0.005, 4)


@pytest.mark.parametrize("setting, value", [("evaluation.bootstrap", "51"), ("data.max_ood", "9")])
def test_an_evaluation_with_other_settings_is_refused_and_changes_no_file(run, capsys, setting, value):
    before = [(run / name).read_bytes() for name in ("metrics.json", "config.yaml")]
    assert call("evaluate.py", *TINY, "--runs", str(run.parent), f"--{setting}", value) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{value} asked for" in said and "--overwrite" in said
    assert before == [(run / name).read_bytes() for name in ("metrics.json", "config.yaml")]


def test_sets_of_hardly_any_images_are_evaluated_and_what_is_not_defined_is_said(tiny, tmp_path, no_plots):
    """OOD sets of one image and of equal ones; one test image a class."""
    images = random_images(84, 8, 8)
    for name, part in (("$x$", images[::2]), ("b_{", images[1::2])):
        save_images(tmp_path / "own/train" / name, *part[:40])
        save_images(tmp_path / "own/test" / name, part[41])
    save_images(tmp_path / "one", images[80])
    save_images(tmp_path / "equal", *5 * [np.full((8, 8), 9, np.uint8)])
    own, *ood = (DataSet(source="folder", root=str(tmp_path / name)) for name in ("own", "one", "equal"))
    tiny.data = replace(tiny.data, train=own, ood=ood, decoded=str(tmp_path / "decoded"), validation=0.2)
    tiny.teacher.epochs = tiny.student.epochs = 1
    run_stages(tiny)
    agreement = json.loads((tiny.folder / "metrics.json").read_text())["agreement"]
    for name, ceiling in (("one", "- |"), ("equal", "")):  # equal images have masks of their own
        assert agreement[name]["total_variance"]["pearson"] is None
        assert f"| {name}: total variance (epistemic) | **-** (-) | {ceiling}" in (tiny.folder / "table.md").read_text()


def test_people_who_guess_agree_with_nobody_and_a_twentieth_is_rejected(metrics):
    for who, measure in product(("teacher", "student"), MEASURES):
        assert abs(metrics["humans"][who][measure]["spearman"]) < 0.2
    assert metrics["rejected"]["digits"]["teacher"]["total_variance"] == pytest.approx(0.05, abs=0.01)
    speed = metrics["speed"]
    assert speed["ratio"] == pytest.approx(speed["student_images_per_s"] / speed["teacher_images_per_s"])
    assert all(seconds > 0 for seconds in metrics["stages_s"].values())


def test_predictions_are_those_that_the_metrics_are_computed_from(run, metrics):
    rows = rows_of(run / "predictions.csv")
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
    test = [float(row["predictive_entropy"]) for row in rows_of(run / "predictions.csv") if row["set"] == "digits"]
    student = load_student(run)
    assert student.threshold == pytest.approx(np.quantile(test, 0.95, method="inverted_cdf"), rel=1e-5)
    chosen = digits.images[np.argsort(test)[[0, 50, 100, 150, -1]]]
    photos = save_images(tmp_path / "photos", *chosen[:3, ..., 0].numpy())
    save_images(photos / "b", *chosen[3:, ..., 0].numpy())
    (photos / "c.jpg").write_bytes(b"broken")
    (photos / "notes.txt").write_text("no image")
    out = tmp_path / "out.csv"
    assert predict("--run", run, "--images", photos, "--out", out, "--report") == 0
    said = capsys.readouterr().out
    assert "1 broken images and 1 other files left out" in said and "c.jpg" in said
    rows, expected = rows_of(out), student(chosen)
    assert [row["image"] for row in rows] == [f"{photos}/{name}.png" for name in ("0", "1", "2", "b/0", "b/1")]
    assert [int(row["class"]) for row in rows] == expected.predicted.tolist()
    information = [float(row["mutual_information"]) for row in rows]
    assert information == pytest.approx(expected.mutual_information.tolist(), rel=1e-3)
    answered = (expected.predictive_entropy <= student.threshold).tolist()
    assert [row["answer"] == "yes" for row in rows] == answered and {*answered} == {True, False}
    assert f'"predictive_entropy": {student.threshold}' in out.with_suffix(".html").read_text()
    assert predict("--run", run, "--images", photos / "b/1.png", "--out", out) == 0
    assert [row["image"] for row in rows_of(out)] == [str(photos / "b/1.png")]
    assert predict("--run", run, "--images", photos, "--out", out, "--teacher-passes", 4) == 0
    assert rows_of(out)[0]["total_variance"]
    assert predict("--run", run, "--images", tmp_path / "none") == 2
    assert "error: --images: no folder" in capsys.readouterr().err


def test_predictions_that_fail_or_are_killed_leave_the_earlier_ones(run, digits, tmp_path, monkeypatch, capsys):
    out, photos = tmp_path / "out.csv", save_images(tmp_path / "photos")
    (photos / "broken.png").write_bytes(b"broken")
    out.write_text("of yesterday")
    arguments = ["--run", run, "--images", photos, "--out", out]
    assert predict(*arguments) == 2 and "no readable image" in capsys.readouterr().err
    save_images(photos, *random_images(2, 8, 8))
    forward = Mock(side_effect=[Student.forward(load_student(run), digits.images[:1]), KeyboardInterrupt])
    monkeypatch.setattr(Student, "forward", forward)
    monkeypatch.setattr(prediction, "BATCH", 1)
    assert predict(*arguments) == 130 and forward.call_count == 2
    assert out.read_text() == "of yesterday" and sorted(tmp_path.iterdir()) == [out, photos]


def test_the_student_in_the_repository_predicts_at_once(tmp_path):
    photos = save_images(tmp_path / "photos", *random_images(3, 40, 60, 3))
    assert predict("--run", "results/cifar10_cpu", "--images", photos, "--out", tmp_path / "out.csv") == 0
    rows = rows_of(tmp_path / "out.csv")
    assert len(rows) == 3 and "p(airplane)" in rows[0] and all(float(row["total_variance"]) > 0 for row in rows)


@pytest.mark.parametrize("path", list(Path("results").glob("*/metrics.json")), ids=str)
def test_the_results_tables_are_what_their_metrics_say(path):
    assert table(json.loads(path.read_text())) + "\n" == path.with_name("table.md").read_text()
