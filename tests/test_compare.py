"""Comparisons: methods on two half moons, each within bounds that a broken loss would not keep; files, tables."""

import json
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS, ROOT, TINY
from matplotlib.figure import Figure
from torch import nn

import compare
import data
from configs.cli import parse
from configs.errors import UserError
from configs.schema import Config, Row
from data.corruptions import CORRUPTIONS
from data.shifts import SHIFTS
from methods import TEACHERS, student
from plots import comparison as report
from uncertainty import speed
from uncertainty.speed import cost

COMPARISONS = [path for path in Path("results").rglob("README.md") if "python -m plots.comparison" in path.read_text()]
MOONS = [
    "--config", str(ROOT / "configs/two_moons.yaml"), "--name", "moons", "--teacher.epochs", "30",
    "--student.epochs", "30", "--evaluation.passes", "50", "--evaluation.bootstrap", "20",
]  # fmt: skip
LEFT_OUT = {"EnD", "EnDD proxy", "Hydra+", "Drop", "Gauss", "EDFM", "diagonal logit Gaussian", "Laplace, last layer"}

# Pearson with MC-dropout of predictive entropy and mutual information, and the scale of total variance: what it has to
# reach, from and to. A likelihood's variance is too small, that of Truong 2019's student, from scratch, too large.
BOUNDS = {
    "variance-propagation": (0.9, 0.75, 0.15, 0.6),
    "suq-unscaled": (0.85, 0.7, 0.15, 0.6),
    "cvp": (0.95, 0.82, 0.6, 1.1),
    "endd": (0.9, 0.6, 0.2, 0.9),
    "hydra": (0.85, 0.7, 0.4, 1.2),
    "truong-2019": (0.7, 0.4, 1.0, 6.0),
    "logit-gaussian-ours": (0.95, 0.82, 0.8, 1.2),
    "dirichlet-ours": (0.95, 0.82, 0.6, 1.2),
}


def moons() -> Config:
    """configs/two_moons.yaml, shortened."""
    config, _ = parse(MOONS)
    config.rows = [row for row in config.rows if row.title not in LEFT_OUT]
    return config


@pytest.fixture(scope="module", autouse=True)
def one_round():
    """Times are of one round."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "seconds_per_image", partial(speed.seconds_per_image, rounds=1))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Its results."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("moons"))
        compare.main(moons(), overwrite=False)
        return Path("runs/moons").absolute()


def record(folder: Path, slug: str) -> dict:
    return json.loads((folder / f"{slug}-0.json").read_text())


@pytest.mark.parametrize("slug", BOUNDS)
def test_what_each_method_makes_of_dropout(folder, slug):
    predictive, information, low, high = BOUNDS[slug]
    found = record(folder, slug)
    agreement, energy = found["agreement"]["two_moons"], found["energy_distance"]["two_moons"]
    assert found["before"]["accuracy"] > 0.97 and agreement["predictive_entropy"]["pearson"] > predictive
    assert agreement["mutual_information"]["pearson"] > information
    assert low < agreement["total_variance"]["scale"] < high
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
    assert softmax["predictive_entropy"]["auroc"] < 0.3
    assert record(folder, "ddu")["ood"]["plane"]["negative_log_density"]["auroc"] > 0.9
    several = record(folder, "ensemble")
    assert several["ood"]["plane"]["mutual_information"]["auroc"] > softmax["predictive_entropy"]["auroc"]
    assert several["agreement"]["two_moons"]["predictive_entropy"]["pearson"] > 0.9


def test_the_same_command_again_goes_on_and_a_row_that_fails_is_shown_as_failed(folder, monkeypatch):
    monkeypatch.chdir(folder.parents[1])
    assert {"README.md", "maps.png", "methods.png"} <= {path.name for path in folder.iterdir()}
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*-0.json")}
    removed, weights = folder / "endd-0.json", folder / "endd-0/student.safetensors"
    removed.write_text(json.dumps({"title": "EnDD", "place": 4, "seed": 0, "settings": {}, "failed": "power cut"}))
    trained = weights.stat().st_mtime_ns
    monkeypatch.setattr(compare, "draw_maps", lambda *_: Figure())  # as before: of networks that are the same
    config = moons()
    config.rows.append(Row("lost", of="nobody"))
    compare.main(config, overwrite=False)
    assert record(folder, "endd")["before"]["accuracy"] > 0.97 and weights.stat().st_mtime_ns == trained
    assert "| lost | failed |" in (folder / "README.md").read_text()
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path != removed)


def test_a_comparison_of_which_all_rows_fail_is_an_error_and_destroys_no_result(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, "runs/moons", ignore=shutil.ignore_patterns("*-0"))
    file = Path("runs/moons/endd-0.json").rename("runs/moons/lost-0.json")
    kept = file.read_text()
    with pytest.raises(UserError, match="all 1 rows failed"):
        compare.main(*parse([*MOONS, "--rows", "[{title: lost, of: nobody}]"]))
    found = json.loads(file.read_text())
    assert "UserError: rows: lost is of nobody" in found.pop("failed_later") and found == json.loads(kept)
    report.main(file.parent)
    assert (
        "lost is of nobody, but no row has that title (the tables have an ear"
        in Path("runs/moons/README.md").read_text()
    )
    file.write_text(kept[:100])
    with pytest.raises(UserError, match="lost-0.json: missing or damaged"):
        report.main(file.parent)
    with pytest.raises(UserError, match="two would be written to .*a-b-0.json"):
        compare.main(*parse([*MOONS, "--rows", "[{title: a b}, {title: a  b}]"]))


@pytest.mark.parametrize("changes", [{"sampling": {"held_out": 1}}, {"teacher": {"train_on_all": True}}])
def test_a_row_that_leaves_no_validation_images_is_refused_before_it_is_trained(changes):
    with pytest.raises(UserError, match="held_out: .*learns from|train_on_all: .*needs validation"):
        compare.config_of(Row("x", changes=changes), 0, Config(compared_on="validation"))


def test_recipes_are_compared_on_validation_images_and_their_shifts(tmp_path, monkeypatch):
    """No test image is read, and a row's student differs by what it changes alone. Rows can be run one by one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "load_evaluation", lambda *_: pytest.fail("the test images were asked for"))
    monkeypatch.setattr(sys, "orig_argv", ["python", "compare.py", "--only", "[passes, b]", "--seed", "0"])
    rows = "[{title: passes, kind: teacher, compared_with: mc_dropout}, {title: the recipe, of: passes}, "
    rows += "{title: a Gaussian, of: passes, changes: {student: {method: logit_gaussian}}}]"
    command = [*TINY, "--name", "recipes", "--compared_on", "validation", "--rows", rows]
    with pytest.raises(UserError, match="only: no row has the title 'a recipe'"):
        compare.main(*parse([*command, "--only", "[passes, a recipe]"]))
    compare.main(*parse([*command, "--only", "[passes]"]))
    assert not Path("runs/recipes/the-recipe-0.json").exists()
    compare.main(*parse(command))
    found = report.load(Path("runs/recipes"))
    (recipe,), (gaussian,) = found["the recipe"], found["a Gaussian"]
    assert recipe["settings"]["student"] | {"method": "logit_gaussian"} == gaussian["settings"]["student"]
    assert recipe["settings"]["teacher_of"] == gaussian["settings"]["teacher_of"] == "recipes/passes-0"
    assert list(recipe["agreement"]) == ["digits-validation"] + [f"digits-validation-{kind}" for kind in SHIFTS]
    compare.main(*parse([*command, "--only", "[a Gaussian]", "--overwrite"]))
    assert Path("runs/recipes/the-recipe-0/student.safetensors").exists()
    page = Path("runs/recipes/README.md").read_text()
    assert "| the recipe | " in page and "Made by `python compare.py --seed 0` and" in page


def test_equal_teachers_are_trained_and_sampled_once(tmp_path, monkeypatch, capsys):
    """Also for a row that is `of` such a row. Other settings have a teacher of their own, and one that is there
    stays."""
    monkeypatch.chdir(tmp_path)
    rows = "[{title: one}, {title: two, changes: {student: {lr: 1e-3}}}, {title: three, of: two, kind: teacher}, "
    rows += "{title: other, changes: {teacher: {lr: 0.01}}}, {title: own, kind: teacher}]"
    short = "--teacher.epochs 1 --student.epochs 1 --sampling.passes 2 --evaluation.passes 2 --sampling.views [plain]"
    config, _ = parse([*TINY, *short.split(), "--name", "x", "--compared_on", "validation", "--rows", rows])
    compare.train_teacher.main(compare.config_of(config.rows[-1], 0, config))
    for _ in range(2):  # the second time, all is finished
        compare.main(config)
        assert capsys.readouterr().out.endswith("tables are in runs/x/README.md, figures beside it\n")
    found = [{path.parts[2] for path in Path("runs/x").glob(f"*/{made}")} for made in ("teacher.*", "mc_samples")]
    assert found == [{"one-0", "other-0", "own-0"}, {"one-0", "other-0"}]
    assert not any("failed" in of for seeds in report.load(Path("runs/x")).values() for of in seeds)


def test_shifts_are_measured_beside_the_test_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "[{title: passes, kind: teacher, compared_with: mc_dropout}]"
    settings = ["--evaluation.shifted", "150", "--evaluation.passes", "4", "--name", "shifts", "--rows", rows]
    for kind in CORRUPTIONS.keys() - {"fog", "contrast"}:
        monkeypatch.delitem(CORRUPTIONS, kind)
    compare.main(*parse([*TINY, *settings]))
    found = record(Path("runs/shifts"), "passes")["shifts"]
    assert list(found) == ["none", "fog", "contrast", "class_priors"] and list(found["fog"]) == ["1", "3", "5"]
    none, foggy = found["none"]["0"], found["fog"]["5"]
    assert none["coverage"] == pytest.approx(0.8, abs=0.01) and none["risk"] < 1 - none["accuracy"]
    assert all(foggy[score] < none[score] for score in ("accuracy", "coverage"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_row_of_every_config_has_settings_that_its_method_has(path):
    config, _ = parse(["--config", str(path)])
    for row in config.rows[::5] + config.rows[-1:]:
        changed = compare.config_of(row, row.seeds[-1], config)
        assert changed.seed == row.seeds[-1] and changed.teacher.method in TEACHERS
        if row.kind == "student":
            student.check(changed)


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.parent.name)
def test_the_results_tables_are_what_their_files_say(path):
    assert report.long(report.load(path.parent)) in path.read_text()


# Cost.


def test_cost_counts_what_a_layer_has_and_does():
    layer = nn.Linear(100, 50, bias=False)
    found = cost(layer, lambda images: [layer(images) for _ in range(20)], [layer], torch.randn(256, 100))
    assert found["parameters"] == 5000 and found["flops"] == 2 * 5000 and found["ratio"] < 0.5
    assert 4 * 5000 <= found["bytes"] < 4 * 5000 + 500
