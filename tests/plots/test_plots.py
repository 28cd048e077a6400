"""What the figures show: every image is counted, every number is the one that was measured."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import plots
from plots import style
from plots.comparison import kept, paired
from plots.methods import fit, kept_by_epochs, lengths, main_rows, quality, worth, worths
from plots.style import INFORMATION, PANELS, TRUONG
from uncertainty.distribution import MEASURES

RNG = np.random.default_rng(0)
COUNT = 600
NAMES = ("CIFAR-10", "MNIST")


@pytest.fixture
def values() -> list[dict[str, dict[str, np.ndarray]]]:
    """Of a teacher and of a student."""
    return [{name: {m: RNG.gamma(1.0, 0.2, COUNT) for m in MEASURES} for name in NAMES} for _ in range(2)]


@pytest.mark.parametrize("measures", [TRUONG, INFORMATION])
def test_every_image_is_in_the_density_above_the_line(values, measures):
    entry = {
        "pearson": 0.876,
        "pearson_ci": [0.85, 0.9],
        "equivalent_passes": 43.2,
        "censored": False,
        "baseline_pearson": 0.321,
        "noise_ceiling": 0.98,
        "last_layer_pearson": 0.5,
        "scale": 1.02,
        "reference_passes": 100,
    }
    figure = plots.teacher_against_student(*values, {name: dict.fromkeys(MEASURES, entry) for name in NAMES}, measures)
    said = "\n".join(text.get_text() for text in figure.findobj(Text))
    assert said.count("Pearson 0.876: as 43 passes") == len(NAMES) * len(measures)
    panels = [axis for axis in figure.axes if axis.get_xlabel() == "teacher"]
    for axis, (measure, name) in zip(panels, [(m, name) for m in measures for name in NAMES], strict=True):
        assert max(of[name][measure].max() for of in values) > axis.get_xlim()[1]  # drawn at the edge
        assert axis.collections[0].get_array().sum() == COUNT
        assert axis.lines[0].get_zorder() < axis.collections[0].get_zorder()


def test_a_histogram_leaves_no_image_out(values):
    values[0]["MNIST"]["total_variance"][:3] = 5.0, 4.0, 3.0  # far from all others
    figure = plots.histograms(*values, ["MNIST"], behind="CIFAR-10")
    for axis, measure in zip(figure.axes, TRUONG):
        outlines = [patch.get_xy() for patch in axis.patches]
        assert len(outlines) == 4 and all(outline[1:-1:2, 1].sum() == pytest.approx(1) for outline in outlines)
        assert outlines[0][:, 0].max() == pytest.approx(max(of[name][measure].max() for of in values for name in NAMES))


@pytest.mark.parametrize("worth", [20.0, 250.0])
def test_the_crossing_of_student_and_teacher_is_marked(worth):
    """On a curve that obeys 1 / c² = a (1 + k / N) exactly, also beyond its last point."""
    passes = np.array([1, 2, 4, 8, 16, 24, 32, 50, 100])
    c = lambda n: (1.02 * (1 + 3 / n)) ** -0.5  # noqa: E731
    entry = {"pearson": c(worth), "pearson_ci": [c(worth)] * 2, "equivalent_passes": worth, "censored": False}
    entry |= {"reference_passes": 100, "baseline_pearson": 0.5, "noise_ceiling": 0.99, "last_layer_pearson": None}
    curves = {"digits": dict.fromkeys(PANELS, {"passes": passes.tolist(), "pearson": c(passes).tolist()})}
    figure = plots.correlation_by_passes(curves, {"digits": dict.fromkeys(PANELS, entry)})
    for axis in figure.axes:
        assert f"{worth:.0f} passes" in [text.get_text() for text in axis.texts]
        assert "100" in [tick.get_text() for tick in axis.get_xticklabels()]
        (marked,) = [line.get_xydata()[0] for line in axis.lines if line.get_markersize() == 5]
        ends = np.concatenate([x.get_xydata() for x in axis.lines if x.get_color() == style.COLOURS["teacher"]])
        assert marked == pytest.approx([worth, np.interp(worth, *ends.T)], rel=3e-3)
        assert axis.get_xlim()[0] < marked[0] < axis.get_xlim()[1]


def test_few_images_get_few_bins_and_pale_dots(values):
    few = [{"CIFAR-10": {m: x[:100] for m, x in of["CIFAR-10"].items()}} for of in values]
    bins = [len(plots.histograms(*of, ["CIFAR-10"]).axes[0].patches[0].get_xy()) for of in (few, values)]
    assert bins[0] < bins[1]
    confidence = np.repeat([0.3, 0.9], [3, 97])
    both = dict.fromkeys(style.NAMES, confidence), dict.fromkeys(style.NAMES, confidence > 0.5)
    dots = plots.reliability(*both, "digits").axes[0].collections[1]
    assert dots.get_alpha().tolist() == [0.2, 0.8] and dots.get_sizes().tolist() == pytest.approx([19, 301])


def test_the_axis_of_risk_begins_where_the_errors_do():
    confidence = dict.fromkeys(style.NAMES, np.linspace(1, 0, 1000))
    correct = dict.fromkeys(style.NAMES, np.arange(1000) < 900)  # the last tenth is wrong
    (axis,) = plots.risk_coverage(confidence, correct, "digits").axes
    assert 0.85 < axis.get_xlim()[0] < 0.905 and axis.get_ylim()[1] == pytest.approx(0.105)


def test_no_image_is_twice_among_the_extremes():
    images, names = np.zeros((20, 8, 8, 1), np.uint8), [str(i) for i in range(20)]
    uncertainty = dict.fromkeys(TRUONG, np.arange(20.0))  # all measures agree
    figure = plots.extremes(images, uncertainty, uncertainty, names, ["cat"] * 20, ["dog"] * 20, "pets")
    captions = [axis.title for axis in figure.axes]
    assert [int(caption.get_text().split()[0]) for caption in captions] == [0, 1, 2, 3, 4, *range(19, 9, -1)]
    assert all(x.get_fontsize() >= 8 and "true: cat; student: dog" in x.get_text() for x in captions)


def test_a_comparison_draws_no_variants_and_writes_what_is_far_away_at_the_edge():
    titles = ["EnD", "EnDD", "EnD, of an ensemble", "EnD without views", "Dirichlet, ours", "Dirichlet, ours, wide"]
    assert list(main_rows(dict.fromkeys(titles, []))) == ["EnD", "EnDD", "Dirichlet, ours"]
    axis = Figure().subplots()
    fit(axis, np.array([[0.90, 0.91, 0.92, 0.91, 0.10]]))
    assert axis.get_xlim()[0] > 0.85 and "◂ 0.100" in [text.get_text() for text in axis.texts]


def test_a_new_measure_has_the_unit_that_it_was_given(monkeypatch):
    monkeypatch.setitem(style.MEASURE_NAMES, "variation_ratio", "variation ratio (epistemic)")
    for unit, label in (("", "variation ratio (epistemic)"), ("bits", "variation ratio (epistemic), bits")):
        monkeypatch.setitem(style.UNITS, "variation_ratio", unit)
        assert style.axis_label("variation_ratio") == label


def test_names_in_any_script_are_drawn_by_a_font_that_has_them_or_spelled(tmp_path, recwarn, monkeypatch):
    assert [style.drawable(x) for x in ("naïve\n−1", "\0")] == ["naïve\n−1", "\0"]
    images, values = np.zeros((2, 8, 8, 1), np.uint8), dict.fromkeys(TRUONG, np.zeros(2))
    style.save(
        plots.extremes(images, values, values, ["犬.png"] * 2, ["猫"] * 2, ["ネコ"] * 2, "画像"), tmp_path / "x.png"
    )
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    monkeypatch.setattr(style, "glyphs", lambda: {ord(" "), ord("→")})  # as without such a font
    assert style.drawable("猫 → ネコ 고") == "u+732b → neko go"


def test_differences_are_taken_seed_by_seed_and_bold_where_zero_is_excluded():
    def record(seed, rows):
        return {"seed": seed, "resampled": {"accuracy": rows}}

    done = {
        "other": [record(0, [0.8, 0.7, 0.9]), record(1, [0.9, 0.9, 0.9])],
        "Dirichlet, ours": [record(0, [0.7, 0.6, 0.8]), record(1, [0.85, 0.8, 0.9])],
        "same": [record(0, [0.7, 0.7, 0.7])],
    }
    (text,) = paired(done).values()
    assert "| other | 2 | **+0.100 (+0.100 to +0.100)**; +0.050 to +0.100 |" in text
    assert "| same | 1 | +0.000 (-0.095 to +0.095) |" in text


def test_what_a_student_keeps_of_an_ensemble_is_a_share_of_the_gain_over_its_members():
    def row(title: str, kind: str, teacher: str, accuracy: float, nll: float, auroc: float) -> dict:
        scores = {
            "before": {"accuracy": accuracy, "nll": nll},
            "ood": {"far": {"predictive_entropy": {"auroc": auroc}}},
        }
        about = {"title": title, "kind": kind, "teacher": teacher, "settings": {"student": {"epochs": 9}}}
        return about | scores

    done = {
        "five": [row("five", "teacher", "ensemble", 0.9, 0.3, 0.8)],
        "one": [row("one", "teacher", "deterministic", a, 0.5, 0.9) for a in (0.79, 0.81)],
        "student": [row("student", "student", "ensemble", 0.85, 0.25, 0.8)],
        "of dropout": [row("of dropout", "student", "mc_dropout", 0.85, 0.25, 0.8)],
    }
    # half of .80 to .90; 125% of .5 to .3; the ensemble itself loses the AUROC, so there is no gain to keep
    assert kept(done).splitlines()[2:] == ["| student | 9 | 50% | 125% | - |"]
    assert kept({title: of for title, of in done.items() if title != "one"}) == ""


def test_what_is_kept_of_an_ensembles_gain_is_drawn_for_students_of_several_lengths():
    def row(title: str, kind: str, teacher: str, accuracy: float, epochs: int = 0) -> list[dict]:
        about = {"title": title, "kind": kind, "teacher": teacher, "settings": {"student": {"epochs": epochs}}}
        return [about | {"before": {"accuracy": accuracy, "nll": 1 - accuracy}, "ood": {}}]

    rows = [
        row("five", "teacher", "ensemble", 0.9),
        row("one", "teacher", "deterministic", 0.8),
        row("long, 40 epochs", "student", "ensemble", 0.88, 40),
        row("long, 10 epochs", "student", "ensemble", 0.85, 10),
        row("short, 8 epochs", "student", "ensemble", 0.81, 8),
    ]
    by_epochs = kept_by_epochs({of[0]["title"]: of for of in rows})
    assert list(by_epochs) == ["long"]
    for axis in lengths(by_epochs).axes:
        _, line = axis.lines
        np.testing.assert_allclose([line.get_xdata(), line.get_ydata()], [[10, 40], [0.5, 0.8]])


def test_the_worth_of_methods_is_drawn_at_their_cost_the_best_variant_of_each():
    def row(title: str, kind: str, teacher: str, cost: float, passes: float) -> list[dict]:
        agreement = {"digits": {"total_variance": {"equivalent_passes": passes}}}
        return [{"title": title, "kind": kind, "teacher": teacher, "cost": {"ratio": cost}, "agreement": agreement}]

    rows = [
        row("MC-dropout", "teacher", "mc_dropout", 80, 100),
        row("Hydra", "student", "mc_dropout", 1.0, 5),
        row("Hydra, 64 heads", "student", "mc_dropout", 1.2, 20),
        row("Hydra, of an ensemble", "student", "ensemble", 1.0, 400),
        row("Dirichlet, ours", "student", "mc_dropout", 1.1, 90),
    ]
    figure = worth(worths({of[0]["title"]: of for of in rows}))
    assert figure.get_suptitle().startswith("Dirichlet, ours: one pass is worth 90 passes")
    line, *points = figure.axes[0].lines
    assert (line.get_xdata() == line.get_ydata()).all()
    assert [(*p.get_xdata(), *p.get_ydata()) for p in points] == [(1.1, 90), (1.2, 20)]


def test_quality_against_cost_has_a_line_by_members_and_a_point_for_each_student():
    def row(title: str, kind: str, teacher: str, cost: float, nll: float) -> list[dict]:
        scores = {"before": {"nll": nll, "misclassification_auroc": 0.9}, "cost": {"ratio": cost}}
        about = {"title": title, "kind": kind, "teacher": teacher, "student": kind == "student" and "dirichlet"}
        return [about | scores | {"ood": {"far": {"predictive_entropy": {"auroc": 0.8}}}}]

    rows = [
        row("three", "teacher", "ensemble", 3, 0.25),
        row("two", "teacher", "ensemble", 2, 0.3),
        row("one", "teacher", "deterministic", 1, 0.4),
        row("passes", "teacher", "mc_dropout", 80, 0.35),
        row("student", "student", "ensemble", 1.1, 0.28),
    ]
    dropout, ensemble, student = quality({of[0]["title"]: of for of in rows}).axes[0].lines
    assert [*zip(ensemble.get_xdata(), ensemble.get_ydata())] == [(1, 0.4), (2, 0.3), (3, 0.25)]
    assert [*dropout.get_xdata(), *dropout.get_ydata()] == [80, 0.35]
    assert [*student.get_xdata(), *student.get_ydata()] == [1.1, 0.28]
