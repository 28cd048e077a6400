"""One look for all figures: Okabe & Ito's colours (safe for colour-blind readers), and the names of the measures."""

import io
import textwrap
from collections.abc import Collection, Iterable
from functools import cache
from itertools import product
from pathlib import Path
from unicodedata import name

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from training import artifact
from uncertainty.distribution import UNITS, Values

Uncertainties = dict[str, Values]  # {data set: {measure: [N]}}

CJK = (  # fonts with Chinese, Japanese and Korean characters, of Linux, macOS and Windows
    "Noto Sans CJK SC, Noto Sans CJK JP, Noto Sans SC, Source Han Sans SC, WenQuanYi Zen Hei, WenQuanYi Micro Hei, "
    "Droid Sans Fallback, IPAGothic, NanumGothic, PingFang SC, Hiragino Sans, Hiragino Sans GB, Apple SD Gothic Neo, "
    "Arial Unicode MS, Microsoft YaHei, SimHei, Yu Gothic, MS Gothic, Malgun Gothic"
).split(", ")

matplotlib.use("Agg")
matplotlib.rcParams |= {
    "font.family": ["DejaVu Sans", *sorted(set(CJK) & set(font_manager.get_font_names()), key=CJK.index)],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "figure.titlesize": 12,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 100,
}

BLUE, ORANGE, GREEN, GREY, PINK, SKY = "#0072B2", "#D55E00", "#009E73", "#767676", "#CC79A7", "#56B4E9"
RED = "#E3004F"  # a colour that no density has
COLOURS = {"teacher": BLUE, "student": ORANGE, "teacher_deterministic": GREY}
NAMES = {"teacher_deterministic": "teacher, no dropout", "teacher": "teacher, T passes", "student": "student, 1 pass"}

MEASURE_COLOURS = {
    "predictive_entropy": BLUE,
    "expected_entropy": GREEN,
    "mutual_information": ORANGE,
    "total_variance": PINK,
    "entropy_minus_variance": SKY,
}
TRUONG = ("total_variance", "entropy_minus_variance", "predictive_entropy")  # the measures of Truong 2019
INFORMATION = ("mutual_information", "expected_entropy")  # the other way to split the predictive entropy
# What figures show, in this order.
PANELS = ("total_variance", "mutual_information", "expected_entropy", "predictive_entropy")
MEASURE_NAMES = {
    "predictive_entropy": "predictive entropy",
    "expected_entropy": "expected entropy (aleatoric)",
    "mutual_information": "mutual information (epistemic)",
    "total_variance": "total variance (epistemic)",
    "entropy_minus_variance": "entropy − variance (aleatoric)",
}
LABELS = MEASURE_NAMES | NAMES
LABELS |= {"energy": "energy", "negative_log_density": "feature density", "max_probability": "max. probability"}


def axis_label(measure: str, lines: bool = False) -> str:
    """Name and unit of a measure; with `lines`, the kind of uncertainty is in a second line."""
    label = ", ".join(filter(None, [MEASURE_NAMES[measure], UNITS[measure]]))
    return label.replace(" (", "\n(") if lines else label


def plain_name(measure: str) -> str:
    """The name of a measure without its kind of uncertainty."""
    return MEASURE_NAMES[measure].split(" (")[0]


def passes(entry: dict) -> str:
    """The equivalent passes of an entry of `agreement` in metrics.json: a number, a lower bound (> 400), or a dash for
    a constant."""
    if entry["equivalent_passes"] is None or np.isnan(entry["equivalent_passes"]):
        return "-"
    return f"{'> ' if entry['censored'] else ''}{entry['equivalent_passes']:.0f}"


def span(numbers: Iterable[float], digits: int = 2) -> str:
    """The least and the largest number, or the only one; a dash if none is defined."""
    known = [x for x in numbers if not np.isnan(x)]
    ends = [f"{end(known):.{digits}f}" for end in (min, max) if known]
    return " to ".join(dict.fromkeys(ends)) or "-"


def numbered(text: str, count: int) -> str:
    """A text in which the teacher's T passes are a number."""
    return text.replace("T passes", f"{count} passes")


def defined(value: float, digits: int = 3) -> str:
    """A number in a figure, or `not defined` for NaN, such as a correlation with a constant."""
    return "not defined" if np.isnan(value) else f"{value:.{digits}f}"


@cache
def glyphs() -> set[int]:
    """Every character that the fonts of the figures have."""
    fonts = map(font_manager.get_font, map(font_manager.findfont, matplotlib.rcParams["font.family"]))
    return {code for font in fonts for code in font.get_charmap()}


def drawable(text: str) -> str:
    """A text in which characters that no font has are spelled by the end of their Unicode name (ネ: ne, 猫: u+732b)."""
    spelled = (name(c, "?").split()[-1].lower().replace("ideograph-", "u+") for c in text)
    return "".join(c if ord(c) in glyphs() or c < " " else other for c, other in zip(text, spelled, strict=True))


def panels(
    title: str, rows: Collection, columns: Collection, size: float = 2.6, left: str = ""
) -> tuple[Figure, dict[tuple, Axes]]:
    """A figure with a title, in as many lines as its width needs, and a square panel for each row and column.

    left: what the vertical axes show of the measures that the rows are.
    """
    width = size * len(columns) + 0.6
    lines = textwrap.wrap(title, int(9.5 * width))
    figure = Figure(figsize=(width, size * len(rows) + 0.8 + 0.2 * len(lines)))
    figure.suptitle("\n".join(lines))
    axes = dict(zip(product(rows, columns), figure.subplots(len(rows), len(columns), squeeze=False).flat))
    for measure in rows if left else ():
        axes[measure, next(iter(columns))].set_ylabel(f"{axis_label(measure, lines=True)}\n{left}")
    return figure, axes


def diagonal(axis: Axes, limit: float, colour: str = "black", margin: float = 0.0) -> None:
    """A line where both coordinates are equal, below all else, and the same limits for both. margin: the space around
    0 to limit, as a share of it."""
    ends = (-margin * limit, (1 + margin) * limit)
    axis.plot(ends, ends, color=colour, linewidth=0.8, zorder=0)
    axis.set(xlim=ends, ylim=ends, aspect="equal")


def passes_axis(axis: Axes, count: int, end: int) -> None:
    """A logarithmic axis of passes, from 1 to `end`, with ticks at all `count` passes and at `end`."""
    ticks = sorted({1, count, end, *(n for n in (4, 16) if 2 * n < count)})
    axis.set_xscale("log")
    axis.set_xticks(ticks, map(str, ticks))
    axis.set_xticks([], minor=True)
    axis.set(xlabel="passes N", xlim=(0.9, 1.1 * end))


def legend_below(figure: Figure, columns: int = 2) -> None:
    """A legend of all panels, below them; what several lines are called appears once."""
    by_label = {
        label: handle for axis in figure.axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(by_label.values(), by_label, loc="outside lower center", ncols=columns)


def save(figure: Figure, path: Path, count: int | None = None) -> None:
    """Write a PNG of 256 colours, which has about a third of the bytes of a full-colour one. count: the T of the
    teacher's T passes."""
    for text in figure.findobj(Text):  # a name of the user's can be in any script
        text.set_text(drawable(text.get_text() if count is None else numbered(text.get_text(), count)))
        if "$" in text.get_text() and "mathdefault" not in text.get_text():  # a name's, not that of a tick's 10²
            text.set_parse_math(False)
    buffer = io.BytesIO()
    figure.savefig(buffer)
    with artifact.replacing(path) as temporary:
        Image.open(buffer).convert("RGB").quantize(256).save(temporary, "png", optimize=True)
