"""What the figures show: every image is counted, every number is the one that was measured."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import plots
from plots import style
from plots.comparison import kept, paired
from plots.methods import kept_by_epochs, lengths, quality, worth, worths
from plots.style import INFORMATION, PANELS, TRUONG
from uncertainty.distribution import MEASURES

RNG = np.random.default_rng(0)
COUNT = 600
NAMES = ("CIFAR-10", "MNIST")
ENTRY = {
    "pearson_ci": [0.85, 0.9], "censored": False, "reference_passes": 100, "baseline_pearson": 0.3,
    "noise_ceiling": 0.99, "last_layer_pearson": None,
}  # fmt: skip


@pytest.fixture
def values() -> list[dict[str, dict[str, np.ndarray]]]:
    """Of a teacher and of a student."""
    return [{name: {m: RNG.gamma(1.0, 0.2, COUNT) for m in MEASURES} for name in NAMES} for _ in range(2)]


@pytest.mark.parametrize("measures", [TRUONG, INFORMATION])
def test_every_image_is_in_the_density_above_the_line(values, measures):
    entry = ENTRY | {"pearson": 0.876, "equivalent_passes": 43.2, "scale": 1.02}
    figure = plots.teacher_against_student(*values, {name: dict.fromkeys(MEASURES, entry) for name in NAMES}, measures)
    said = "\n".join(text.get_text() for text in figure.findobj(Text))
    assert said.count("Pearson 0.876: as 43 passes") == len(NAMES) * len(measures)
    panels = [axis for axis in figure.axes if axis.get_xlabel() == "teacher"]
    for axis, (measure, name) in zip(panels, [(m, name) for m in measures for name in NAMES], strict=True):
        assert max(of[name][measure].max() for of in values) > axis.get_xlim()[1]  # drawn at the edge
        assert axis.collections[0].get_array().sum() == COUNT


def test_a_histogram_leaves_no_image_out(values):
    values[0]["MNIST"]["total_variance"][:3] = 5.0, 4.0, 3.0  # far from all others
    figure = plots.histograms(*values, ["MNIST"], behind="CIFAR-10")
    for axis, measure in zip(figure.axes, TRUONG):
        outlines = np.stack([patch.get_xy() for patch in axis.patches])
        assert outlines[:, 1:-1:2, 1].sum(1) == pytest.approx(np.ones(4))
        assert outlines[..., 0].max() == pytest.approx(max(of[name][measure].max() for of in values for name in NAMES))


@pytest.mark.parametrize("worth", [20.0, 250.0])
def test_the_crossing_of_student_and_teacher_is_marked(worth):
    """On a curve that obeys 1 / c² = a (1 + k / N) exactly, also beyond its last point."""
    passes = np.array([1, 2, 4, 8, 16, 24, 32, 50, 100])
    c = lambda n: (1.02 * (1 + 3 / n)) ** -0.5  # noqa: E731
    entry = ENTRY | {"pearson": c(worth), "equivalent_passes": worth}
    curves = {"digits": dict.fromkeys(PANELS, {"passes": passes.tolist(), "pearson": c(passes).tolist()})}
    figure = plots.correlation_by_passes(curves, {"digits": dict.fromkeys(PANELS, entry)})
    for axis in figure.axes:
        assert f"{worth:.0f} passes" in [text.get_text() for text in axis.texts]
        (marked,) = [line.get_xydata()[0] for line in axis.lines if line.get_markersize() == 5]
        ends = np.concatenate([x.get_xydata() for x in axis.lines if x.get_color() == style.COLOURS["teacher"]])
        assert marked == pytest.approx([worth, np.interp(worth, *ends.T)], rel=3e-3)


def test_no_image_is_twice_among_the_extremes():
    images, names = np.zeros((20, 8, 8, 1), np.uint8), [str(i) for i in range(20)]
    uncertainty = dict.fromkeys(TRUONG, np.arange(20.0))  # all measures agree
    figure = plots.extremes(images, uncertainty, uncertainty, names, ["cat"] * 20, ["dog"] * 20, "pets")
    captions = [axis.get_title() for axis in figure.axes]
    assert [int(caption.split()[0]) for caption in captions] == [0, 1, 2, 3, 4, *range(19, 9, -1)]


def test_names_in_any_script_are_drawn_by_a_font_that_has_them_or_spelled(tmp_path, recwarn, monkeypatch):
    images, values, names = np.zeros((2, 8, 8, 1), np.uint8), dict.fromkeys(TRUONG, np.zeros(2)), ["犬", "猫"]
    style.save(plots.extremes(images, values, values, names, names, names, "画像"), tmp_path / "x.png")
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    monkeypatch.setattr(style, "glyphs", lambda: {ord(" "), ord("→")})  # as without such a font
    assert style.drawable("猫 → ネコ 고") == "u+732b → neko go"


def test_a_names_dollars_are_drawn_as_they_are_and_a_ticks_power_as_a_power(tmp_path):
    figure = Figure()
    figure.suptitle("a $x_{$ b")
    figure.subplots().loglog([1, 1000], [1, 1000])
    style.save(figure, tmp_path / "x.png")
    texts = [text for text in figure.findobj(Text) if "$" in text.get_text()]
    powers = ["mathdefault" in text.get_text() for text in texts]
    assert [text.get_parse_math() for text in texts] == powers and set(powers) == {True, False}


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


def of(
    title: str, kind: str, teacher: str, accuracy=0.8, nll=0.3, auroc=0.8, cost=1.0, passes=1.0, epochs=9, width=1
) -> dict[str, list]:
    """A comparison's row with one seed."""
    row = {
        "title": title, "seed": 0, "kind": kind, "teacher": teacher, "draws": cost,
        "cost": {"ratio": cost, "flops": 7 * cost}, "student": kind == "student" and "dirichlet",
        "settings": {
            "student": {"epochs": epochs},
            "teacher": {"width": width, "head_dropout": 0.3 * ("passes" in title)},
        },
        "before": {"accuracy": accuracy, "nll": nll, "misclassification_auroc": 0.9},
        "ood": {"far": {"predictive_entropy": {"auroc": auroc}}},
        "agreement": {"digits": {"total_variance": {"equivalent_passes": passes}}},
    }  # fmt: skip
    return {title: [row]}


ENSEMBLE = of("five", "teacher", "ensemble", 0.9, 0.3)
MEMBER = of("one", "teacher", "deterministic", 0.8, 0.5, 0.9)


def test_what_a_student_keeps_of_an_ensemble_is_a_share_of_the_gain_over_its_members():
    students = of("student", "student", "ensemble", 0.85, 0.25) | of("of dropout", "student", "mc_dropout", 0.85, 0.25)
    # half of .80 to .90; 125% of .5 to .3; the ensemble itself loses the AUROC, so there is no gain to keep
    assert kept(ENSEMBLE | MEMBER | students).splitlines()[2:] == ["| student | 9 | 50% | 125% | - |"]
    assert kept(ENSEMBLE | students) == ""
    other_size = of("wide", "teacher", "deterministic", 0.7, width=2)
    assert kept(other_size | ENSEMBLE | MEMBER | students) == kept(ENSEMBLE | MEMBER | students)
    better = [*ENSEMBLE["five"], of("", "teacher", "ensemble", 0.94, 0.3)[""][0] | {"seed": 1}]
    again = [*students["student"], of("", "student", "ensemble", 0.89, 0.3)[""][0] | {"seed": 1}]
    for seeds, share in ((students["student"], "50%"), (again, "58%")):  # .05 of .10; .07 of .12
        assert share in kept({"five": better, "student": seeds} | MEMBER)
    students["student"][0]["seconds"] = {"teacher": 9}  # the ensemble was trained again
    assert kept(ENSEMBLE | MEMBER | students) == ""


def test_what_is_kept_of_an_ensembles_gain_is_drawn_for_students_of_several_lengths():
    by_epochs = kept_by_epochs(
        ENSEMBLE
        | MEMBER
        | of("long, 40 epochs", "student", "ensemble", 0.88, 0.34, epochs=40)
        | of("long, 10 epochs", "student", "ensemble", 0.85, 0.4, epochs=10)
        | of("short, 8 epochs", "student", "ensemble", 0.81, epochs=8)
    )
    assert list(by_epochs) == ["long"]
    for axis in lengths(by_epochs).axes[:2]:  # accuracy and NLL
        _, line = axis.lines
        np.testing.assert_allclose([line.get_xdata(), line.get_ydata()], [[10, 40], [0.5, 0.8]])


def test_the_worth_of_methods_is_drawn_at_their_cost_the_best_variant_of_each():
    points = worths(
        of("MC-dropout", "teacher", "mc_dropout", cost=80, passes=100)
        | of("Hydra", "student", "mc_dropout", cost=1.0, passes=5)
        | of("Hydra, 64 heads", "student", "mc_dropout", cost=1.2, passes=20)
        | of("Hydra, of an ensemble", "student", "ensemble", cost=1.0, passes=400)
        | of("Dirichlet, ours", "student", "mc_dropout", cost=1.1, passes=90)
    )
    figure = worth(points)
    assert figure.get_suptitle() == "Dirichlet, ours: worth 90 passes of its teacher, in the time of 1.1"
    assert worth([(250, 1.1, "A, ours")]).axes[0].get_ylim()[1] > 250
    line, *points = figure.axes[0].lines
    assert (line.get_xdata() == line.get_ydata()).all()
    assert [(*p.get_xdata(), *p.get_ydata()) for p in points] == [(1.1, 90), (1.2, 20)]


def test_quality_against_cost_has_lines_by_passes_members_and_width_and_a_point_for_each_student():
    figure = quality(
        of("three", "teacher", "ensemble", nll=0.25, cost=3)
        | of("one", "teacher", "deterministic", nll=0.4, cost=1)
        | of("wide", "teacher", "deterministic", nll=0.35, cost=2, width=2)
        | of("80 passes", "teacher", "mc_dropout", nll=0.35, cost=80)
        | of("passes off", "teacher", "deterministic", nll=0.38, cost=1)
        | of("student", "student", "ensemble", nll=0.28, cost=1.1)
    )
    dropout, ensemble, widths, student = (line.get_xydata().tolist() for line in figure.axes[0].lines)
    assert ensemble == [[1, 0.4], [3, 0.25]] and widths == [[1, 0.4], [2, 0.35]]
    assert dropout == [[1, 0.38], [80, 0.35]] and student == [[1.1, 0.28]]
