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
        "pearson": 0.876, "pearson_ci": [0.85, 0.9], "equivalent_passes": 43.2, "censored": False, "floor_pearson": 0.321,
        "limit_pearson": 0.98, "floor_head_pearson": 0.5, "scale": 1.02, "reference_passes": 100,
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
