"""What the figures show: every image is counted, every number is the one that was measured, no text leaves the
canvas."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

import plots
from plots import shifts
from plots.comparison import paired
from plots.style import INFORMATION, RED, TRUONG
from uncertainty.distribution import MEASURES

RNG = np.random.default_rng(0)
COUNT = 600


def values(*names: str) -> dict[str, dict[str, np.ndarray]]:
    return {name: {measure: RNG.gamma(1.0, 0.2, COUNT) for measure in MEASURES} for name in names}


def agreement(*names: str) -> dict[str, dict]:
    entry = {
        "pearson": 0.876, "pearson_ci": [0.85, 0.9], "equivalent_passes": 43.2, "censored": False, "baseline_pearson": 0.321,
        "noise_ceiling": 0.98, "last_layer_pearson": 0.5, "scale": 1.02, "reference_passes": 100,
    }  # fmt: skip
    return {name: dict.fromkeys(MEASURES, entry) for name in names}


def texts(figure: Figure) -> str:
    """All text of a figure, none of which may leave its canvas."""
    FigureCanvasAgg(figure).draw()
    width, height = figure.bbox.size
    shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    for text in shown:
        box = text.get_window_extent()
        ticks = any(text in axis.get_xticklabels() + axis.get_yticklabels() for axis in figure.axes)
        assert ticks or (box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1), (
            text.get_text()
        )
    return "\n".join(text.get_text() for text in shown)


@pytest.mark.parametrize(
    "names", [("CIFAR-10",), ("CIFAR-10", "MNIST"), ("CIFAR-10", "CIFAR-100", "Tiny-ImageNet", "MNIST")]
)
@pytest.mark.parametrize("measures", [TRUONG, INFORMATION])
def test_every_image_is_in_the_density_or_counted_beyond_it(names, measures):
    teacher, student = values(*names), values(*names)
    figure = plots.teacher_against_student(teacher, student, agreement(*names), measures)
    said = texts(figure)
    assert said.count("Pearson 0.876: as 43 passes") == len(names) * len(measures) and "floor 0.321" in said
    panels = [axis for axis in figure.axes if axis.get_xlabel() == "teacher"]
    pairs = [(measure, name) for measure in measures for name in names]
    assert len(panels) == len(pairs) and len(figure.axes) == len(pairs) + 1 and figure.axes[-1].get_ylabel() == "images"
    for axis, (measure, name) in zip(panels, pairs):
        x, y, limit = teacher[name][measure], student[name][measure], axis.get_xlim()[1]
        beyond = ((x > limit) | (y > limit)).sum()
        assert axis.collections[0].get_array().sum() == COUNT - beyond
        assert f"{beyond} of {COUNT} beyond the axes" in axis.get_title(loc="left")
        assert not axis.texts  # what is said stands above the points
        assert to_hex(axis.lines[0].get_color()) == RED.lower()


def test_no_density_has_the_colour_of_the_identity():
    figure = plots.teacher_against_student(values("a"), values("a"), agreement("a"), TRUONG)
    colours = figure.axes[0].collections[0].get_cmap().colors
    red = np.array([int(RED[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    assert np.abs(np.array(colours)[:, :3] - red).max(1).min() > 0.3


def test_a_histogram_leaves_no_image_out_and_has_no_false_last_bin():
    teacher, student = values("in", "out"), values("in", "out")
    teacher["out"]["total_variance"][:3] = 5.0, 4.0, 3.0  # far from all others
    figure = plots.histograms(teacher, student, ["out"], behind="in")
    assert "share of the images" in texts(figure) and "dotted: in" in texts(figure)
    for axis, measure in zip(figure.axes, TRUONG):
        outlines = [patch.get_xy() for patch in axis.patches]
        assert len(outlines) == 4 and not any(patch.get_fill() for patch in axis.patches) and axis.get_yscale() == "log"
        for outline in outlines:
            assert outline[1:-1:2, 1].sum() == pytest.approx(1)
        assert axis.patches[0].get_xy()[:, 0].max() == pytest.approx(
            max(v[at][measure].max() for v in (teacher, student) for at in v)
        )
    assert figure.axes[0].patches[0].get_xy()[-2, 1] == pytest.approx(1 / COUNT)  # one image in the last bin


@pytest.mark.parametrize("outside", [["out"], ["out", "far", "further"]])
def test_roc_has_two_curves_a_set_and_says_what_is_below_chance(outside):
    teacher, student = values("in", *outside), values("in", *outside)
    entry = {"teacher": {"predictive_entropy": {"auroc": 0.8123}}, "student": {"predictive_entropy": {"auroc": 0.4321}}}
    figure = plots.roc(teacher, student, dict.fromkeys(outside, entry))
    said = texts(figure)
    assert said.count("AUROC: teacher 0.812, student 0.432 (below chance)") == len(outside)
    for axis in figure.axes:
        assert len(axis.lines) == 3  # and chance
        assert figure.legends[0].get_window_extent().y1 < axis.get_window_extent().y0  # below the curves


def test_training_curves_name_the_loss():
    rows = [
        {"epoch": e, "loss": 1 / e, "validation_loss": 1.1 / e, "accuracy": 0.5, "validation_accuracy": 0.4}
        for e in (1, 2, 3)
    ]
    student = [{key: value for key, value in row.items() if "accuracy" not in key} for row in rows]
    figure = plots.training_curves(
        {"teacher": rows, "student": student}, {"teacher": "cross-entropy, nats", "student": "4 KL"}
    )
    assert "cross-entropy, nats" in texts(figure) and "4 KL" in texts(figure) and "validation loss" in texts(figure)
    alone = plots.training_curves(
        {"teacher": [], "student": student}, {"teacher": "cross-entropy, nats", "student": "4 KL"}
    )
    assert "cross-entropy, nats" not in texts(alone) and "4 KL" in texts(alone)


def test_reliability_markers_are_shares_and_whole():
    confidence = np.array([0.999] * 90 + [0.55] * 10)
    who = ("teacher_deterministic", "teacher", "student")
    figure = plots.reliability(dict.fromkeys(who, confidence), dict.fromkeys(who, np.arange(100) < 90), "digits")
    assert (
        "ECE 0." in texts(figure)
        and figure.axes[0].title.get_window_extent().y1 < figure._suptitle.get_window_extent().y0
    )
    (markers,) = [c for c in figure.axes[0].collections if len(c.get_offsets()) == 2 and len(c.get_sizes()) == 2]
    assert markers.get_sizes().tolist() == pytest.approx([10 + 300 * 0.1, 10 + 300 * 0.9]) and not markers.get_clip_on()


def test_extremes_show_names_and_the_values_of_both():
    teacher, student = values("a")["a"], values("a")["a"]
    names = [f"test/cat/a_rather_long_name_of_an_image_{i:04d}.png" for i in range(COUNT)]
    images = RNG.integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)
    said = texts(plots.extremes(images, teacher, student, names, ["cat → dog"] * COUNT, "a"))
    most = int(np.argmax(student["total_variance"]))
    assert f"_{most:04d}.png" in said
    assert f"teacher {teacher['total_variance'][most]:.3f}, student {student['total_variance'][most]:.3f}" in said


@pytest.mark.parametrize("names", [("CIFAR-10",), ("CIFAR-10", "MNIST")])
def test_nothing_is_cut_with_few_sets(names):
    teacher, student = values(*names), values(*names)
    curve = {"passes": [1, 2, 4, 8], "pearson": [0.4, 0.6, 0.8, 0.9]}
    texts(plots.correlation_by_passes({name: dict.fromkeys(MEASURES, curve) for name in names}, agreement(*names)))
    texts(plots.scale(teacher, student, agreement(*names)))
    texts(plots.histograms(teacher, student, [names[0]]))


def test_covariate_shift_is_averaged_over_shifts_at_each_severity():
    def entry(accuracy: float, passes: float | None) -> dict:
        agreement = {m: {"equivalent_passes": passes, "scale": 1.0} for m in MEASURES}
        return {
            "accuracy": accuracy,
            "nll": 1.0,
            "ece": 0.1,
            "coverage": 0.8,
            "risk": None,
            "errors": {},
            "agreement": agreement,
        }

    record = {"title": "student", "shifts": {
        "none": {"0": entry(0.9, 50)}, "fog": {"1": entry(0.8, 40), "5": entry(0.4, 8)},
        "jpeg": {"1": entry(0.7, 20), "5": entry(0.2, None)}, "class_priors": {"5": entry(0.99, 90)},
    }}  # fmt: skip
    lines = shifts.shift_table([record]).splitlines()[2:]
    assert [line.split(" | ")[1:3] for line in lines] == [
        ["0", "0.900"],
        ["1", "0.750"],
        ["5", "0.300"],
        ["class priors 5", "0.990"],
    ]
    assert [line.split(" | ")[8] for line in lines] == ["50", "30", "8", "90"] and lines[0].split(" | ")[7] == "-"
    assert shifts.faithful(record) == pytest.approx((50 + 40 + 8 + 20 + 90) / 5)
    without = {"title": "EnD", "shifts": {"none": {"0": entry(0.9, None)}}}
    assert max([without, record], key=shifts.faithful) is record
    found = texts(shifts.methods_under_shift([record])) + texts(shifts.shifts_of(record))
    assert "0.750" in found and "fog" in found and "0.990" in found


def test_differences_are_taken_seed_by_seed_and_bold_where_zero_is_excluded():
    def record(seed, rows):
        return {"seed": seed, "resampled": {"accuracy": rows}}

    done = {
        "other": [record(0, [0.8, 0.7, 0.9]), record(1, [0.9, 0.9, 0.9])],
        "Dirichlet, ours": [record(0, [0.7, 0.6, 0.8]), record(1, [0.85, 0.8, 0.9])],
        "same": [record(0, [0.7, 0.7, 0.7])],
    }
    heading, _, text = paired(done)
    assert heading.endswith("Dirichlet, ours")
    assert "| other | 2 | **+0.100 (+0.100 to +0.100)**; +0.050 to +0.100 |" in text
    assert "| same | 1 | +0.000 (-0.095 to +0.095) |" in text
    assert paired({"other": done["other"]}) == []


def test_the_last_map_is_of_a_score_that_other_methods_lack():
    """A student has measures alone; a softmax has its energy too, which is shown by rank."""
    values = np.random.default_rng(0).random(16)
    student = {name: values for name in (*MEASURES, "max_probability")}
    softmax = {name: values for name in ("predictive_entropy", "max_probability", "energy")}
    figure = plots.maps(
        {"student": student, "softmax": softmax}, np.zeros((4, 1, 1, 2), np.uint8), np.array([0, 1, 0, 1])
    )
    drawn = [len(axis.get_images()) for axis in figure.axes]
    assert drawn == [1, 1, 1, 1, 0] + [1, 0, 0, 0, 1]
    assert sorted(figure.axes[9].get_images()[0].get_array().flatten()) == list(range(1, 17))
