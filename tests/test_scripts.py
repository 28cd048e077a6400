"""The scripts as a user calls them, on a tiny experiment: files, shape of metrics.json, predictions, and the README's
table."""

import base64
import csv
import io
import json
import math
import runpy
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import TINY, full_disk
from PIL import Image
from scipy.stats import dirichlet

import data
import evaluate
import train_student
import train_teacher
from configs.schema import DataSet
from methods.student import Student, load_student
from models.architecture import Architecture
from models.vgg import vgg
from plots.table import JUDGES, table
from training.cli import parse
from training.errors import UserError
from training.run import Run
from uncertainty.distribution import MEASURES

SCORES = {"accuracy", "macro_f1", "nll", "brier", "ece", "ece_equal_mass", "misclassification_auroc", "aurc"}
AGREEMENT = {
    "pearson", "pearson_ci", "spearman", "spearman_ci", "repeatability_pearson", "repeatability_spearman", "floor_pearson",
    "floor_head_pearson", "limit_pearson", "equivalent_passes", "equivalent_passes_ci", "censored",
    "scale", "student_mean", "teacher_mean", "reference_passes",
}  # fmt: skip
PLOTS = {
    "teacher_against_student", "teacher_against_student_information", "correlation_by_passes", "reliability", "risk_coverage",
    "training_curves", "roc", "scale", "humans",
    "in_distribution", "out_of_distribution", "extremes_digits", "extremes_letters",
}  # fmt: skip


RNG = np.random.default_rng(0)


class Said(io.StringIO):
    """A stream; the scripts set how theirs treat what cannot be encoded."""

    def reconfigure(self, **_) -> None:
        pass


@dataclass
class Done:
    """How a script ended, and what it said."""

    code: int
    out: str
    err: str


def call(script: str, *options: str) -> Done:
    """Run a script as `python script options` does, but in this process, which has imported everything."""
    out, err, code = Said(), Said(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", [script, *options])
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            code = end.code
    return Done(code, out.getvalue(), err.getvalue())


def start(script: str, *options: str) -> Done:
    """The same in a process of its own, which shows that the script imports what it needs."""
    done = subprocess.run([sys.executable, script, *options], capture_output=True, text=True)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run."""
    runs = tmp_path_factory.mktemp("runs")
    digits = data.load(parse(TINY)[0].data.train, "test", parse(TINY)[0].data)
    rows = [f"{i},{name}," + ",".join(map(str, RNG.integers(0, 9, 10))) for i, name in enumerate(digits.names)]
    (runs / "people.csv").write_text("\n".join([",".join(["test_index", "image", *digits.classes]), *rows]))
    for script in ("train_teacher.py", "train_student.py", "evaluate.py"):
        done = call(script, *TINY, "--runs", str(runs), "--evaluation.human_labels", str(runs / "people.csv"))
        assert done.code == 0, done.err
    assert "teacher against student" in done.out
    return runs / "digits"


@pytest.fixture(scope="module")
def metrics(run) -> dict:
    return json.loads((run / "metrics.json").read_text())


def test_a_run_leaves_what_the_readme_promises(run):
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {"config.yaml", "teacher.safetensors", "student.safetensors", "metrics.json", "table.md", "log.txt"} <= names
    assert {"predictions.csv", "report.html"} <= names and (run / "report.html").stat().st_size < 10e6
    assert {f"plots/{name}.png" for name in PLOTS} <= names
    assert {
        "mc_samples/digits-train-mixup-0x4.safetensors",
        "mc_samples/letters-reference-b-plain-0x6.safetensors",
    } <= names
    assert not [name for name in names if name.endswith((".tmp", ".partial"))]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["teacher"]["lr"] == 0.005 and config["teacher"]["momentum"] == 0.9
    assert parse(["--config", str(run / "config.yaml")])[0].sampling.passes == 4


def test_metrics_have_the_promised_shape(metrics):
    assert metrics["provenance"].keys() == {
        "command", "commit", "seed", "device", "versions", "data", "method", "student_seed", "teacher_data",
    }  # fmt: skip
    for who in ("teacher_deterministic", "teacher", "student"):
        assert metrics[who].keys() == SCORES
        assert 0 <= metrics[who]["accuracy"] <= 1 and metrics[who]["nll"] > 0
    assert list(metrics["agreement"]) == ["digits", "letters", "noise"]
    for entry in metrics["agreement"].values():
        assert entry.keys() == {"same_class", *(judge for judge, _ in JUDGES), *MEASURES}
        assert entry["energy_distance"].keys() == {"student", "teacher", "point"}
        for measure in MEASURES:
            assert entry[measure].keys() == AGREEMENT
            assert entry[measure]["reference_passes"] == 6
            assert -1 <= entry[measure]["pearson"] <= 1
    assert metrics["rejected"].keys() == set(MEASURES)
    assert metrics["rejected"]["total_variance"]["digits"]["teacher"] == pytest.approx(0.05, abs=0.01)
    assert list(metrics["ood"]) == ["letters", "noise"]
    for entry in metrics["ood"].values():
        assert entry.keys() == {"teacher", "student"}
        for who in entry.values():
            assert all(who[measure].keys() == {"auroc", "auprc", "fpr95"} for measure in MEASURES)
    for who in ("teacher", "student"):
        assert all(abs(metrics["humans"][who][measure]["spearman"]) < 0.2 for measure in MEASURES)  # these people guess
    assert metrics["speed"]["ratio"] == pytest.approx(
        metrics["speed"]["student_images_per_s"] / metrics["speed"]["teacher_images_per_s"]
    )
    assert metrics["stages_s"].keys() == {"teacher", "sampling", "student", "reference", "evaluate"}
    assert all(seconds > 0 for seconds in metrics["stages_s"].values())


def test_the_same_commands_again_skip_what_is_done(run, no_plots, tmp_path, capsys):
    again = tmp_path / "digits"
    shutil.copytree(run, again)
    before = {path: path.stat().st_mtime_ns for path in again.rglob("*.safetensors")}
    for script in ("train_teacher.py", "train_student.py"):
        assert "skipped" in call(script, *TINY, "--runs", str(tmp_path)).out
    earlier = again / "plots/histograms_of_a_set_that_is_no_longer_asked_for.png"
    earlier.touch()
    evaluate.main(parse([*TINY, "--runs", str(tmp_path)])[0], overwrite=False)
    assert not earlier.exists()
    assert capsys.readouterr().out.count("there already") == 6
    assert {path: path.stat().st_mtime_ns for path in again.rglob("*.safetensors")} == before


def test_a_full_disk_leaves_what_was_there(run, no_plots, tmp_path, monkeypatch, capsys):
    """A finished run's metrics, its table, and its settings, which even a stage that is skipped writes."""
    again = tmp_path / "digits"
    shutil.copytree(run, again)
    config, _ = parse([*TINY, "--runs", str(tmp_path)])
    monkeypatch.setattr(Run, "log", lambda *_: None)
    for name, size, work in (
        ("metrics.json", 10_000, lambda: evaluate.main(config, overwrite=False)),
        ("table.md", 100, lambda: evaluate.write(Run(again, "evaluate"), "x" * 1000, {})),
        ("config.yaml", 100, lambda: train_teacher.main(config, overwrite=False)),
    ):
        before = (again / name).read_bytes()
        with full_disk(size), pytest.raises(UserError, match=f"{name}: cannot be written"):
            work()
        assert (again / name).read_bytes() == before
    assert {path.name for path in again.iterdir()} == {path.name for path in run.iterdir()}


def test_a_student_of_another_teacher_is_not_evaluated(run, tmp_path):
    done = start("evaluate.py", *TINY, "--runs", str(run.parent), "--teacher.lr", "0.01")
    assert done.code == 2 and "teacher.lr: 0.005 there, 0.01 asked for" in done.err
    done = start("train_student.py", *TINY, "--runs", str(tmp_path))
    assert done.code == 2 and "run train_teacher.py" in done.err


def test_sets_of_hardly_any_images_are_evaluated_and_what_is_not_defined_is_said(tiny, tmp_path):
    """OOD sets of one image, of two, and of equal ones; one test image a class."""

    def images(folder: Path, count: int, pixels=lambda: RNG.integers(0, 256, (8, 8), dtype=np.uint8)):
        folder.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(pixels()).save(folder / f"{i}.png")

    for name in ("$x$", "b_{"):
        images(tmp_path / "own/train" / name, 40)
        images(tmp_path / "own/test" / name, 1)
    for name, count in (("one", 1), ("two", 2), ("equal", 5)):
        images(tmp_path / name, count, *([lambda: np.full((8, 8), 9, np.uint8)] if name == "equal" else []))
    tiny.data = replace(tiny.data, decoded=str(tmp_path / "decoded"), validation=0.2)
    tiny.data.train = DataSet(source="folder", root=str(tmp_path / "own"))
    tiny.data.ood = [DataSet(source="folder", root=str(tmp_path / name)) for name in ("one", "two", "equal")]
    for script in (train_teacher, train_student, evaluate):
        script.main(tiny, overwrite=False)
    written = json.loads((tiny.folder / "metrics.json").read_text())
    for name in ("one", "equal"):
        assert written["agreement"][name]["total_variance"]["pearson"] is None
        assert f"| {name}: total variance (epistemic) | **-** (-) | - |" in (tiny.folder / "table.md").read_text()


def test_predictions_are_those_that_the_metrics_are_computed_from(run, metrics):
    rows = list(csv.DictReader((run / "predictions.csv").open()))
    digits = [row for row in rows if row["set"] == "digits"]
    for who, start in (("student", ""), ("teacher", "teacher ")):
        probs = np.array([[float(row[f"{start}p({c})"]) for c in range(10)] for row in digits])
        labels = np.array([int(row["label"]) for row in digits])
        assert (probs.argmax(1) == labels).mean() == pytest.approx(metrics[who]["accuracy"])
        assert -np.log(probs[np.arange(len(labels)), labels]).mean() == pytest.approx(metrics[who]["nll"], rel=1e-4)
    for name in metrics["agreement"]:
        mine, theirs = (
            [float(row[f"{start}total_variance"]) for row in rows if row["set"] == name] for start in ("", "teacher ")
        )
        assert np.mean(mine) == pytest.approx(metrics["agreement"][name]["total_variance"]["student_mean"], rel=1e-4)
        entry = metrics["agreement"][name]["total_variance"]
        assert np.corrcoef(mine, theirs)[0, 1] == pytest.approx(entry["pearson"], abs=0.3)  # of six passes alone
    first = digits[0]
    alpha = [float(first["precision"]) * float(first[f"p({c})"]) for c in range(10)]
    assert dirichlet.var(alpha).sum() == pytest.approx(float(first["total_variance"]), rel=1e-3)
    assert all(row["right"] == ("yes" if row["class"] == row["label"] else "no") for row in digits)
    assert all(row["right"] == "" for row in rows if row["set"] == "letters")


@pytest.mark.parametrize("own", [[], ["--teacher-passes", "4"]])
def test_a_report_of_new_images(run, tmp_path, own):
    digits = data.load(parse(TINY)[0].data.train, "test", parse(TINY)[0].data)
    for i in range(4):
        Image.fromarray(digits.images[i, ..., 0].numpy()).resize((100, 60)).save(tmp_path / f"{i}.png")
    done = call(
        "predict.py", "--run", str(run), "--images", str(tmp_path), "--out", str(tmp_path / "a.csv"), "--report", *own
    )
    assert done.code == 0 and f"report: {tmp_path / 'a.html'}" in done.out
    page = (tmp_path / "a.html").read_text()
    assert '"names": ["0.png", "1.png", "2.png", "3.png"]' in page and ('"precision": null' in page) == bool(own)
    start = page.index("data:image/webp;base64,") + len("data:image/webp;base64,")
    sheet = Image.open(io.BytesIO(base64.b64decode(page[start : page.index(")", start)])))
    assert (
        sheet.size == (40 * 48, 48)
        and np.asarray(sheet)[:, 48 * 4 + 8 :].max() < 16
        and np.asarray(sheet)[:, : 48 * 4].max() > 100
    )


def test_three_lines_of_python(run):
    images = torch.randint(0, 256, (5, 8, 8, 1), dtype=torch.uint8)
    student = load_student(run)
    distribution = student(images)
    assert distribution.mean.shape == (5, 10) and torch.allclose(distribution.mean.sum(1), torch.ones(5))
    for measure in MEASURES:
        assert getattr(distribution, measure).shape == (5,) and getattr(distribution, measure).isfinite().all()
    assert distribution.alpha.dtype == torch.float32 and (distribution.alpha > 0).all()


def test_predict_streams_a_folder_and_skips_what_is_broken(run, tmp_path):
    settings, _ = parse(TINY)
    digits = data.load(settings.data.train, "test", settings.data)
    photos = tmp_path / "photos"
    (photos / "b").mkdir(parents=True)
    for i in range(5):
        Image.fromarray(digits.images[i, ..., 0].numpy()).save(photos / ("b" if i % 2 else "") / f"{i}.png")
    (photos / "c.jpg").write_bytes(b"broken")
    (photos / "notes.txt").write_text("no image")
    out = tmp_path / "out.csv"
    done = call(
        "predict.py",
        "--run",
        str(run),
        "--images",
        str(photos),
        "--out",
        str(out),
        "--batch-size",
        "2",
        "--device",
        "cpu",
    )
    assert done.code == 0 and f"5 images: {out} (1 broken images and 1 other files left out)" in done.out
    assert not out.with_suffix(".html").exists()
    assert "skipped: broken image" in done.out and "c.jpg" in done.out
    rows = {Path(row["image"]).stem: row for row in csv.DictReader(out.open())}
    expected = load_student(run)(digits.images[:5])
    for i in range(5):
        row = rows[str(i)]
        assert row["class"] == str(expected.predicted[i].item())
        assert float(row["mutual_information"]) == pytest.approx(expected.mutual_information[i].item(), rel=1e-3)
        assert sum(float(row[f"p({c})"]) for c in range(10)) == pytest.approx(1, abs=1e-4)
    missing = start("predict.py", "--run", str(run), "--images", str(tmp_path / "none"))
    assert missing.code == 2 and missing.err.startswith("error: --images: no folder")


def test_predictions_that_fail_or_are_killed_leave_the_earlier_ones(run, tmp_path, monkeypatch):
    photos, out = tmp_path / "photos", tmp_path / "out.csv"
    photos.mkdir()
    (photos / "broken.png").write_bytes(b"broken")
    out.write_text("of yesterday")
    arguments = ["--run", str(run), "--images", str(photos), "--out", str(out), "--batch-size", "1", "--device", "cpu"]
    done = call("predict.py", *arguments)
    assert done.code == 2 and "no readable image" in done.err and out.read_text() == "of yesterday"
    for i in range(2):
        Image.new("L", (8, 8), 9 * i).save(photos / f"{i}.png")
    predicted, forward = [], Student.forward

    def cut(student, images):
        if predicted:
            raise KeyboardInterrupt
        predicted.append(images)
        return forward(student, images)

    monkeypatch.setattr(Student, "forward", cut)
    assert call("predict.py", *arguments).code == 130 and len(predicted) == 1
    assert out.read_text() == "of yesterday" and sorted(tmp_path.iterdir()) == [out, photos]


def test_the_student_in_the_repository_predicts_at_once(tmp_path):
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(
            tmp_path / f"{i}.png"
        )
    out = tmp_path / "out.csv"
    done = call(
        "predict.py", "--run", "results/cifar10_cpu", "--images", str(tmp_path), "--out", str(out), "--device", "cpu"
    )
    assert done.code == 0, done.err
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == 3 and "p(airplane)" in rows[0] and all(float(row["total_variance"]) > 0 for row in rows)


@pytest.mark.parametrize(
    "network, convolutions", [("vgg5", 3), ("vgg11", 8), ("vgg13", 10), ("vgg16", 13), ("vgg19", 16)]
)
def test_vgg_has_its_published_depth_and_a_dropout_after_each_relu(network, convolutions):
    rates = [i / 100 for i in range(convolutions)]
    layers = vgg(Architecture(network, 0.125, 32, 3, 7, conv_dropout=rates, head_dropout=0.5))
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in layers) == convolutions
    assert [layer.p for layer in layers if isinstance(layer, torch.nn.Dropout)] == [*rates, 0.5, 0.5]
    assert layers.eval()(torch.zeros(2, 32, 32, 3, dtype=torch.uint8)).shape == (2, 7)


def test_images_are_standardized_by_the_training_set():
    network = vgg(Architecture("vgg5", 0.125, 8, 3, 2))
    images = torch.randint(0, 200, (50, 8, 8, 3), dtype=torch.uint8)
    images[..., 1] //= 3
    network.normalize.fit([images])
    out = network.normalize(images)
    assert out.mean((0, 2, 3)).abs().max() < 1e-4 and (out.std((0, 2, 3)) - 1).abs().max() < 1e-3
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert network.normalize.mean.numpy() == pytest.approx(np.asarray(images).mean((0, 1, 2)), rel=1e-5)


@pytest.mark.parametrize("path", list(Path("results").glob("*/metrics.json")), ids=str)
def test_the_results_tables_are_what_their_metrics_say(path):
    metrics = json.loads(path.read_text())
    assert table(metrics) + "\n" == path.with_name("table.md").read_text()
    assert all(math.isfinite(value) for value in metrics["student"].values())
