"""Comparisons: every method on two half moons, each within bounds that a broken loss would not keep; files, tables,
costs."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS, TINY, full_disk
from matplotlib.figure import Figure
from torch import nn
from training.cli import parse

import compare
import data
from configs.errors import UserError
from data.shifts import SHIFTS
from methods import STUDENTS, TEACHERS
from models.architecture import Architecture
from models.networks import build
from models.spectral_norm import bake
from plots import comparison as report
from plots.recipes import passes_table, teachers_table
from training.run import Run
from uncertainty import speed
from uncertainty.distribution import MEASURES
from uncertainty.speed import cost, peak_bytes

COMPARISONS = [path for path in Path("results").rglob("README.md") if "python -m plots.comparison" in path.read_text()]
MOONS = [
    "--config", str(Path("configs/two_moons.yaml").absolute()), "--name", "moons", "--teacher.epochs", "30", "--student.epochs", "30",
    "--evaluation.passes", "50", "--evaluation.bootstrap", "20",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The results of every row of configs/two_moons.yaml, shortened. Times of one round: `cost` has tests of its
    own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("moons"))
        patch.setattr(speed, "seconds_per_image", partial(speed.seconds_per_image, rounds=1))
        compare.main(*parse(MOONS))
        return Path("results/moons").absolute()


def record(folder: Path, slug: str) -> dict:
    return json.loads((folder / f"{slug}-0.json").read_text())


# Pearson with MC-dropout of predictive entropy and mutual information, and the scale of total variance: what it has to
# reach, from and to. A likelihood's variance is too small, that of Truong 2019's student, from scratch, too large.
BOUNDS = {
    "variance-propagation": (0.9, 0.75, 0.15, 0.6),
    "end": (0.9, None, None, None),
    "endd": (0.9, 0.6, 0.2, 0.9),
    "endd-proxy": (0.8, 0.75, 0.3, 0.8),
    "hydra": (0.85, 0.7, 0.4, 1.2),
    "hydra+": (0.85, 0.7, 0.4, 1.2),
    "drop": (0.88, 0.55, 0.35, 1.0),
    "gauss": (0.9, 0.7, 0.0, 0.1),  # its weights' variance hardly leaves where it starts, e⁻¹⁰
    "edfm": (0.95, 0.72, 0.25, 0.8),
    "diagonal-logit-gaussian": (0.9, 0.75, 0.2, 0.8),
    "truong-2019": (0.7, 0.4, 1.0, 6.0),
    "logit-gaussian-ours": (0.95, 0.82, 0.8, 1.2),
    "dirichlet-ours": (0.95, 0.82, 0.6, 1.2),
}


@pytest.mark.parametrize("slug", BOUNDS)
def test_what_each_method_makes_of_dropout(folder, slug):
    predictive, information, low, high = BOUNDS[slug]
    found = record(folder, slug)
    assert found["before"]["accuracy"] > 0.97
    agreement = found["agreement"]["two_moons"]
    assert agreement["predictive_entropy"]["pearson"] > predictive
    if information is None:
        assert agreement.keys() == {"predictive_entropy"}
        return
    assert agreement["mutual_information"]["pearson"] > information
    assert low < agreement["total_variance"]["scale"] < high
    energy = found["energy_distance"]["two_moons"]
    assert abs(energy["teacher"]) < 5e-4 and (energy["student"] < energy["point"] or slug == "truong-2019")


def test_fifty_passes_are_about_fifty_equivalent_passes(folder):
    """On the 4,096 points of the plane: 44 to 64 with nine seeds. On the test images alone, of which few are uncertain,
    34 to 179."""
    entry = record(folder, "mc-dropout")["agreement"]["plane"]["total_variance"]
    assert 35 < entry["equivalent_passes"] < 70


def test_direct_methods_know_what_is_far_away(folder):
    """In the plane around the data a softmax is sure of itself almost everywhere; distances between features are
    not."""
    softmax = record(folder, "deterministic")["ood"]["plane"]
    assert softmax["predictive_entropy"]["auroc"] < 0.3 and softmax.keys() == {
        "predictive_entropy",
        "max_probability",
        "energy",
    }
    assert record(folder, "ddu")["ood"]["plane"]["negative_log_density"]["auroc"] > 0.9
    several = record(folder, "ensemble")
    assert several["ood"]["plane"]["mutual_information"]["auroc"] > softmax["predictive_entropy"]["auroc"]
    assert several["agreement"]["two_moons"]["predictive_entropy"]["pearson"] > 0.9


def test_every_method_is_in_the_comparison(folder):
    records = [json.loads(path.read_text()) for path in folder.glob("*-0.json")]
    done = [r for r in records if "failed" not in r]
    missing = {"laplace", "head_dropout"}  # may be not installed; a perceptron for the plane has no dropout in its head
    assert {r["teacher"] for r in done} | missing >= TEACHERS.keys()
    assert {r["student"] for r in done} >= STUDENTS.keys()
    assert all("laplace-torch" in r["failed"] for r in records if "failed" in r)


def test_the_same_command_again_goes_on(folder, monkeypatch):
    monkeypatch.chdir(folder.parents[1])
    assert (folder / "maps.png").stat().st_size > 10_000
    before = {
        path: path.stat().st_mtime_ns
        for path in folder.glob("*-0.json")
        if "failed" not in json.loads(path.read_text())
    }
    removed = folder / "end-0.json"
    removed.write_text(json.dumps({"title": "EnD", "place": 4, "seed": 0, "settings": {}, "failed": "power cut"}))
    weights = Path("runs/moons/end-0/student.safetensors")
    trained = weights.stat().st_mtime_ns
    monkeypatch.setattr(compare, "draw_maps", lambda *_: Figure())  # as before: of networks that are the same
    compare.main(*parse(MOONS))
    assert record(folder, "end")["before"]["accuracy"] > 0.97 and weights.stat().st_mtime_ns == trained
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path != removed)
    assert {"README.md", "maps.png", "methods.png"} <= {path.name for path in folder.iterdir()}


def test_a_row_of_other_settings_is_made_again(folder, monkeypatch):
    monkeypatch.chdir(folder.parents[1])
    arguments = [*MOONS, "--evaluation.bootstrap", "10"]
    config, _ = parse(arguments)
    row = next(row for row in config.rows if row.title == "EnD")
    own = compare.config_of(row, 0, config)
    assert not compare.finished(folder / "end-0.json", compare.plain(own), own)
    own.evaluation.bootstrap = 20
    assert compare.finished(folder / "end-0.json", compare.plain(own), own)
    own.runs = "elsewhere"
    assert not compare.finished(folder / "end-0.json", compare.plain(own) | {"runs": "runs"}, own)


def test_a_row_that_fails_is_shown_as_failed(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    rows = "[{title: softmax, kind: teacher, changes: {teacher: {method: deterministic, epochs: 2}}}, {title: lost, of: nobody}]"
    arguments = [*MOONS, "--rows", rows]
    compare.main(*parse(arguments))
    text = Path("results/moons/README.md").read_text()
    assert "| lost | failed |" in text and "lost is of nobody, but no row has that title" in text
    assert "| softmax | 1 |" in text


def test_a_comparison_of_which_all_rows_fail_is_an_error_and_destroys_no_result(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    arguments = [*MOONS, "--rows", "[{title: lost, of: nobody}]"]
    Path("results/moons").mkdir(parents=True)
    kept = json.dumps(record(folder, "end") | {"title": "lost"})
    Path("results/moons/lost-0.json").write_text(kept)
    with pytest.raises(UserError, match="all 1 rows failed; runs/moons/log.txt says why"):
        compare.main(*parse(arguments))
    assert Path("results/moons/lost-0.json").read_text() == kept
    Path("results/moons/lost-0.json").write_text(kept[:100])
    with pytest.raises(UserError, match="lost-0.json: missing or damaged"):
        report.main(Path("results/moons"))
    with pytest.raises(UserError, match="two would be written to a-b-0.json"):
        compare.main(*parse([*MOONS, "--rows", "[{title: a b}, {title: a  b}]"]))
    with pytest.raises(UserError, match="needs one set or more"):
        compare.main(*parse([*MOONS, "--data.ood", "[]"]))


def test_a_row_for_which_the_disk_is_full_is_not_written_in_part(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Run, "log", lambda *_: None)
    with full_disk(100), pytest.raises(UserError, match="results/moons/lost-0.json: cannot be written"):
        compare.main(*parse([*MOONS, "--rows", "[{title: lost, of: nobody}]"]))
    assert not list(Path("results/moons").iterdir())


def test_a_figure_of_many_data_sets(folder):
    by_title = report.load(folder)
    for records in by_title.values():
        for one in report.good(records):
            one["ood"] |= {f"set {i}": next(iter(one["ood"].values())) for i in range(6)}
    panel = next(axis for axis in report.by_method(by_title).axes if axis.get_xlabel() == "AUROC of OOD, by own score")
    assert {text.get_text() for text in panel.get_legend().get_texts()} >= {f"set {i}" for i in range(6)}


def test_recipes_are_compared_on_validation_images_and_their_shifts(tmp_path, monkeypatch):
    """No test image is read, and a row's student differs by what it changes alone."""
    monkeypatch.setattr(data, "load_evaluation", lambda *_: pytest.fail("the test images were asked for"))
    rows = "[{title: passes, kind: teacher, compared_with: mc_dropout}, {title: the recipe, of: passes}, "
    rows += "{title: a Gaussian, of: passes, changes: {student: {method: logit_gaussian}}}]"
    config, _ = parse(
        [*TINY, "--runs", str(tmp_path / "runs"), "--name", "recipes", "--compared_on", "validation", "--rows", rows]
    )
    monkeypatch.chdir(tmp_path)
    compare.main(config, overwrite=False)
    found = report.load(tmp_path / "results/recipes")
    assert list(found) == ["passes", "the recipe", "a Gaussian"] and not any(
        "failed" in r for records in found.values() for r in records
    )
    (recipe,), (gaussian,) = found["the recipe"], found["a Gaussian"]
    assert recipe["settings"]["student"] | {"method": "logit_gaussian"} == gaussian["settings"]["student"]
    assert recipe["settings"]["teacher_of"] == gaussian["settings"]["teacher_of"] == "recipes/passes-0"
    assert list(recipe["agreement"]) == ["digits-validation"] + [f"digits-validation-{kind}" for kind in SHIFTS]
    assert passes_table([recipe, gaussian]).splitlines()[2] in Path("results/recipes/README.md").read_text()
    assert passes_table([recipe, gaussian]).splitlines()[2].startswith("| the recipe | ")
    without = {
        name: {m: v for m, v in of.items() if m != "total_variance"} for name, of in gaussian["agreement"].items()
    }
    assert passes_table([gaussian | {"agreement": without}]).splitlines()[2].count(" - ") == 1


def test_a_teacher_is_shown_with_its_errors_and_the_mean_over_shifts():
    """A network without dropout has no mutual information."""
    scores = {"predictive_entropy": {"auroc": 0.95}, "mutual_information": {"auroc": 0.8}}
    shifts = {"fog": {"predictive_entropy": {"auroc": 0.6}, "mutual_information": {"auroc": 0.4}}, "jpeg": scores}
    teacher = {"title": "ours", "before": {"accuracy": 0.9, "nll": 0.3, "ece": 0.02}, "errors": scores, "ood": shifts}
    without = {
        name: {"predictive_entropy": found["predictive_entropy"]}
        for name, found in (shifts | {"errors": scores}).items()
    }
    plain = teacher | {"title": "plain", "errors": without.pop("errors"), "ood": without}
    *_, first, second = teachers_table([teacher, plain]).splitlines()
    assert first == "| ours | 0.900 | 0.300 | 0.020 | 0.950 | 0.800 | 0.775 | 0.600 |"
    assert second == "| plain | 0.900 | 0.300 | 0.020 | 0.950 | - | 0.775 | - |"


def test_shifts_are_measured_beside_the_test_images(tmp_path, monkeypatch):
    rows = "[{title: passes, kind: teacher, compared_with: mc_dropout}, {title: softmax, of: passes, kind: teacher, "
    rows += "changes: {teacher: {method: deterministic}}}]"
    settings = ["--evaluation.shifted", "150", "--evaluation.shifted_passes", "5"]
    config, _ = parse([*TINY, *settings, "--runs", str(tmp_path / "runs"), "--name", "shifts", "--rows", rows])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        data.corruptions, "CORRUPTIONS", {kind: data.corruptions.CORRUPTIONS[kind] for kind in ("fog", "contrast")}
    )
    compare.main(config, overwrite=False)
    passes, softmax = (record(Path("results/shifts"), slug)["shifts"] for slug in ("passes", "softmax"))
    assert list(passes) == ["none", "fog", "contrast", "class_priors"] and list(passes["fog"]) == ["1", "3", "5"]
    none, foggy = passes["none"]["0"], passes["fog"]["5"]
    assert none["coverage"] == pytest.approx(0.8, abs=0.01) and none["risk"] < 1 - none["accuracy"]
    assert (
        foggy["accuracy"] < none["accuracy"]
        and foggy["means"]["predictive_entropy"] > none["means"]["predictive_entropy"]
    )
    assert foggy["coverage"] < none["coverage"]
    assert (
        none["errors"].keys() == {*MEASURES, "max_probability", "energy"}
        and 0.5 < none["errors"]["max_probability"] <= 1
    )
    assert none["agreement"]["total_variance"]["scale"] == pytest.approx(1, abs=0.2)
    assert none["means"]["energy"] == pytest.approx(
        softmax["none"]["0"]["means"]["energy"], rel=1e-4
    )  # of one network without dropout
    assert set(none["agreement"]) == set(MEASURES) and "agreement" not in softmax["none"]["0"]
    sampled = {path.name for path in Path("runs/shifts/passes-0/mc_samples").glob("*fog*")}
    assert "digits-fog-5-reference-a-plain-0x5.safetensors" in sampled


def test_tables_give_mean_and_standard_deviation():
    records = [{"a": {"b": value}} for value in (1.0, 2.0, 4.0)]
    assert report.spread(report.values(records, "a", "b"), 2) == "2.33 ± 1.53"
    assert (
        report.spread(report.values(records[:1], "a", "b"), 2) == "1.00"
        and report.spread(report.values(records, "c")) == "-"
    )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_row_of_every_config_can_be_read_and_has_settings_that_its_method_has(path):
    config, _ = parse(["--config", str(path)])
    for row in config.rows:
        changed = compare.config_of(row, row.seeds[-1], config)
        assert (
            changed.seed == row.seeds[-1] and changed.teacher.method in TEACHERS and changed.student.method in STUDENTS
        )
        if row.kind == "student":
            STUDENTS[changed.student.method].check(changed)


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.parent.name)
def test_the_results_tables_are_what_their_files_say(path):
    found = report.load(path.parent)
    assert report.long(found) in path.read_text()


# Cost.


def test_cost_counts_what_a_layer_has_and_does():
    layer = nn.Linear(100, 50, bias=False)

    def predict(images):
        return layer(images)

    found = cost(predict, predict, [layer], torch.randn(256, 100))
    assert found["parameters"] == 5000 and found["flops"] == 2 * 5000
    assert 4 * 5000 <= found["bytes"] < 4 * 5000 + 500


def test_cost_of_a_method_in_turn_with_another():
    """One that does the same twenty times takes about twenty times as long."""
    layer = nn.Linear(300, 300)

    def once(images):
        return layer(images)

    def often(images):
        return [layer(images) for _ in range(20)]

    assert 5 < cost(often, once, [layer], torch.randn(256, 300))["ratio"] < 80


@torch.no_grad()
def test_a_network_with_a_spectral_norm_costs_no_more_than_one_without():
    images = torch.zeros(2, 8, 8, 1, dtype=torch.uint8)
    plain, bound = (build(Architecture("vgg5", 0.25, 8, 1, 4, spectral_norm=norm)).eval() for norm in (None, 3.0))
    before = bound(images)
    torch.testing.assert_close(bake(bound)(images), before)
    first, second = (cost(network, plain, [network], images) for network in (plain, bound))
    assert all(first[key] == second[key] for key in ("parameters", "flops", "bytes"))


def test_peak_memory_is_what_is_held_at_once():
    def work():
        a = torch.zeros(1000, 1000)
        b = a + 1
        del a
        return (b + 1).sum()

    assert 8_000_000 <= peak_bytes(work, torch.device("cpu")) < 8_100_000
