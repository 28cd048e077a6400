"""The figures of a comparison: what each method gives, and how it stands covariate shift."""

import re
import textwrap
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, SymmetricalLogLocator
from numpy import ndarray

from data.corruptions import SEVERITIES
from plots.cells import mean, values
from plots.records import Record, Records, by_severity, every, first_set
from plots.style import BLUE, GREEN, GREY, MEASURE_COLOURS, ORANGE, PANELS, PINK, drawable, legend_below, plain_name

COSTS = (1, 2, 5, 10, 20, 50, 100)  # ticks
LABEL_STEP = 1.17  # between two labels, on a logarithmic axis
LABELS = 1.6  # the cost from which they begin
# Width of a letter, as a logarithm: a label that would cover a point on the right is on the left, if it fits there.
LETTER = 0.07
FLOPS = "cost/flops"
RATES = ("settings/teacher/conv_dropout", "settings/teacher/head_dropout")
TOTAL_VARIANCE = "agreement/total_variance"
BY_METHOD = {
    "accuracy": "accuracy",
    "ECE": "ece",
    "mean predictive entropy": "means/predictive_entropy",
    "AUROC of errors": "errors/max_probability",
    "equivalent passes, total variance": f"{TOTAL_VARIANCE}/equivalent_passes",
}
BY_SHIFT = BY_METHOD | {
    "scale of total variance": f"{TOTAL_VARIANCE}/scale",
    "risk of the answered, 80% without shift": "risk",
}


def main_rows(done: Records) -> Records:
    """Without the variants of other rows, whose titles go on after a comma or `without`: the table has them."""
    starts = tuple(f"{title}{end} " for title in done for end in (",", " without"))
    return {title: seeds for title, seeds in done.items() if not title.startswith(starts)}


def fit(axis: Axes, numbers: ndarray) -> None:
    """Limits around most of the numbers [K, rows]; those far away are written at the edge."""
    low, middle, high = np.nanpercentile(numbers, [25, 50, 75])
    reach = 6 * max(high - low, 0.007 * abs(middle))
    near = numbers[abs(numbers - middle) <= reach]
    margin = 0.08 * np.ptp(near) or reach
    axis.set_xlim(near.min() - margin, near.max() + margin)
    for row, of in enumerate(numbers.T):
        for is_far, ha, x, form in ((of < near.min(), "left", 0.01, "◂ {}"), (of > near.max(), "right", 0.99, "{} ▸")):
            if is_far.any():
                text = form.format(", ".join(f"{x:.3f}" for x in of[is_far]))
                axis.text(x, row, text, transform=axis.get_yaxis_transform(), ha=ha, va="center", fontsize=7)


def best_in_one_pass(done: Records, path: str) -> str:
    """The method with the most equivalent passes among those that take at most twice the time of one pass."""
    worth = {t: mean(of, path) for t, of in done.items() if mean(of, "cost/ratio", np.inf) < 2 and values(of, path)}
    title = max(worth, key=worth.get, default="")
    found = f"Of all that take less than two passes' time, {title} is worth the most passes of its teacher"
    return f"{found}: {worth.get(title, 0):.0f} by total variance" if title else ""


def by_method(done: Records) -> Figure:
    """One line for each method, one panel for each thing that it is good or bad at: means over seeds, with standard
    deviations."""
    inside = first_set(every(done))
    found = best_in_one_pass(done, f"agreement/{inside}/total_variance/equivalent_passes")
    done = main_rows(done)
    records = every(done)
    sets = list(records[0]["ood"])
    passes, time = f"equivalent passes, {inside}", "time / one pass"
    panels = {  # {panel: {kind of dot: path}}
        "accuracy": {"": "before/accuracy"},
        "AUROC of errors": {"": "before/misclassification_auroc"},
        "AUROC of OOD, by entropy": {name: f"ood/{name}/predictive_entropy/auroc" for name in sets},
        "AUROC of OOD, by own score": {name: f"own/{name}/auroc" for name in sets},
        passes: {plain_name(measure): f"agreement/{inside}/{measure}/equivalent_passes" for measure in PANELS},
        time: {"": "cost/ratio"},
    }
    panels = {name: kinds for name, kinds in panels.items() if any(values(records, path) for path in kinds.values())}
    colours = {"": BLUE, **dict(zip(sets, cycle((BLUE, ORANGE, GREEN, PINK, GREY))))}
    colours |= {plain_name(measure): MEASURE_COLOURS[measure] for measure in PANELS}
    figure = Figure(figsize=(3 + 2.3 * len(panels), 0.22 * len(done) + 1.8))
    figure.suptitle(f"{found or 'What each method gives'} (dots: means over seeds; lines: standard deviations)")
    for axis, (name, kinds) in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items()):
        means = np.array([[mean(seeds, path) for seeds in done.values()] for path in kinds.values()])
        for (kind, path), of_kind in zip(kinds.items(), means):
            numbers = [values(seeds, path) for seeds in done.values()]
            errors = [np.std(of, ddof=1) if len(of) > 1 else 0 for of in numbers]
            look = {"fmt": "o", "markersize": 4, "linewidth": 0.8, "color": colours[kind], "label": kind}
            axis.errorbar(of_kind, range(len(done)), xerr=errors, **look)
        axis.set(xlabel=name)
        axis.grid(linewidth=0.3)
        if len(kinds) > 1:
            look = {"fontsize": 7, "ncols": 2, "handletextpad": 0, "columnspacing": 0.6}
            axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), **look)
        if name in (passes, time) and np.nanmax(means) > 5 * np.nanmin(means):
            axis.set_xscale("symlog" if name == passes else "log")
            axis.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=2, subs=(1, 3)))
            axis.xaxis.set_major_formatter("{x:g}")
        else:
            axis.locator_params(axis="x", nbins=4)
            fit(axis, means)
    top_down = (len(done) - 0.5, -0.5)
    axis.set(yticks=range(len(done)), yticklabels=map(drawable, done), ylim=top_down)
    return figure


def methods_under_shift(records: list[Record]) -> Figure:
    """A heat map for each quantity: a row for each method, a column for each severity, the mean over all shifts."""
    rows = {record["title"]: by_severity(record) for record in records}
    before, after = (
        np.mean([mean(list(of.values())[place], "accuracy") for of in rows.values()]) for place in (0, len(SEVERITIES))
    )
    title = (
        f"Covariate shift lowers the mean accuracy from {before:.2f} to {after:.2f} (0: no shift; means of all shifts)"
    )
    return heat_maps(rows, BY_METHOD, title)


def shifts_of_the_best(records: list[Record]) -> Figure:
    """A heat map for each quantity of the method with the most equivalent passes (total variance) over all shifts: a
    row for each shift, a column for each severity."""
    path = f"shifts/*/*/{TOTAL_VARIANCE}/equivalent_passes"
    record = max(records, key=lambda record: mean([record], path, missing=-1))
    none, *kinds = record["shifts"]  # images without a shift come first
    by_level = {kind: record["shifts"][none] | record["shifts"][kind] for kind in kinds}
    rows = {kind.replace("_", " "): {level: [entry] for level, entry in of.items()} for kind, of in by_level.items()}
    lowest = {kind: min(values(of.values(), "accuracy")) for kind, of in by_level.items()}
    worst = min(lowest, key=lowest.get)
    title = f"{record['title']}: accuracy {lowest[worst]:.2f} by the worst shift, {worst.replace('_', ' ')}"
    return heat_maps(rows, BY_SHIFT, f"{title} (severity 0: no shift)")


def heat_maps(rows: dict[str, dict[str, list[Record]]], quantities: dict[str, str], title: str) -> Figure:
    """A heat map for each quantity {name: path}, beside each other, with the numbers in them.

    rows: {name: {severity: entries, whose mean is shown}}.
    """
    columns = [level for level in next(iter(rows.values())) if level.isdigit()]
    grids = {
        name: np.array([[mean(of.get(level, ()), path) for level in columns] for of in rows.values()])
        for name, path in quantities.items()
    }
    grids = {name: numbers for name, numbers in grids.items() if not np.isnan(numbers).all()}
    figure = Figure(figsize=(2.3 * len(grids) + 2.5, 0.24 * len(rows) + 1.5))
    figure.suptitle(title)
    for axis, (name, numbers) in zip(figure.subplots(1, len(grids), sharey=True), grids.items()):
        shown = np.ma.masked_invalid(numbers)
        axis.imshow(shown, aspect="auto", cmap="cividis")
        for (y, x), value in np.ndenumerate(numbers):
            text = "-" if np.isnan(value) else f"{value:.0f}" if shown.max() > 10 else f"{value:.3f}"
            colour = "white" if value < (shown.min() + shown.max()) / 2 else "black"
            axis.text(x, y, text, ha="center", va="center", fontsize=7, color=colour)
        axis.set_title(name.replace(", ", ",\n"), fontsize=8)
        axis.set(
            xticks=range(len(columns)), xticklabels=columns, yticks=range(len(rows)), yticklabels=map(drawable, rows)
        )
        axis.set_xlabel("severity")
        axis.tick_params(length=0)
    return figure


def worths(done: Records) -> list[tuple[float, float, str]]:
    """Equivalent passes of the total variance, cost in passes, and title of the best variant of every method of a
    dropout teacher; the best first."""
    path = f"agreement/{first_set(every(done))}/total_variance/equivalent_passes"
    best = {}  # {method: (worth, cost, its title)}
    for title, seeds in done.items():
        passes, itself = mean(seeds, path), seeds[0]["kind"] == "teacher" and seeds[0]["teacher"] == "mc_dropout"
        if passes > 0 and seeds[0]["teacher"] != "ensemble" and not itself:
            method = re.split(",| without| from", title)[0]
            best[method] = max(best.get(method, (0, 0, "")), (passes, mean(seeds, "cost/ratio"), title))
    return sorted(best.values(), reverse=True)


def worth(points: list[tuple[float, float, str]]) -> Figure:
    """The points of `worths`. Above the line a method is worth more than the passes that take its time."""
    figure = Figure(figsize=(7, 4.6))
    passes, cost, best = points[0]
    figure.suptitle(f"{best}: worth {passes:.0f} passes of its teacher, in the time of {cost:.1f}", wrap=True)
    axis = figure.subplots()
    numbers = [number for point in points for number in point[:2]]
    low, high = min(1, *numbers), max(100, *numbers)
    ends = 0.8 * low, 1.5 * high
    axis.loglog([1, high], [1, high], color="black", linewidth=1)
    axis.annotate("MC-dropout itself", (20, 20), (8, -8), textcoords="offset points", fontsize=8)
    lowest = np.inf
    for passes, cost, title in points:
        colour = ORANGE if title.endswith(", ours") else BLUE
        axis.plot(cost, passes, "o", color=colour, markersize=6, zorder=4)  # no label covers a point
        lowest = min(passes, lowest / LABEL_STEP)  # labels of one cost do not overlap
        room = np.log(cost / 1.1 / ends[0]) > LETTER * len(title)
        left = room and any(cost < x < 3 * cost and 0.7 < y / passes < 1.4 for y, x, _ in points)
        axis.annotate(
            title, (cost, passes), (cost / 1.1 if left else max(cost * 1.1, LABELS), lowest), color=colour, fontsize=8,
            va="center", ha="right" if left else "left", bbox={"color": "white", "pad": 0},
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "relpos": (left, 0.5)},
        )  # fmt: skip
    axis.set(xlabel="cost: time of a prediction, in passes of one network without dropout")
    axis.set(ylabel="worth: equivalent passes, total variance", xlim=ends, ylim=ends)
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter("{x:g}")
    axis.grid(linewidth=0.3)
    return figure


def is_member(record: Record, ensemble: Record) -> bool:
    """Whether a record is of a single network without dropout, and of the same size as an ensemble's."""
    sizes = [{key: of["settings"]["teacher"].get(key) for key in ("network", "width")} for of in (record, ensemble)]
    alone = record["teacher"] == "deterministic" and not any(mean([record], rate, 0.0) for rate in RATES)
    return alone and sizes[0] == sizes[1]


def kept_shares(done: Records) -> dict[str, dict[str, float]]:
    """{student: {quality: share}}: what each student of an ensemble keeps of the gain over one of its members, the gain
    of the ensembles of its seeds; NaN where there is none. Empty without an ensemble and its member, or if the accuracy
    is no gain. Without students of an ensemble that was trained again: it took other seconds."""
    teachers = [of for of in done.values() if of[0]["kind"] == "teacher"]
    several = next((of for of in teachers if of[0]["teacher"] == "ensemble"), [])
    one = next((of for of in teachers if several and is_member(of[0], several[0])), [])
    if not several or not one or mean(several, "before/accuracy") <= mean(one, "before/accuracy"):
        return {}
    paths = {"accuracy": "before/accuracy", "NLL": "before/nll"}
    paths |= {f"AUROC {name}, by entropy": f"ood/{name}/predictive_entropy/auroc" for name in several[0]["ood"]}

    def training(record: Record) -> tuple:
        return record["teacher"], record["seed"], *values([record], "seconds/teacher")

    ensembles = {training(record): record for record in several}
    shares = {}
    for title, of in done.items():
        students = [record for record in of if record["kind"] == "student" and training(record) in ensembles]
        if students:
            own = [ensembles[training(record)] for record in students]
            gains = {what: mean(own, path) - mean(one, path) for what, path in paths.items()}
            gains = {what: gain if (gain < 0) == (what == "NLL") else np.nan for what, gain in gains.items()}
            shares[title] = {w: (mean(students, path) - mean(one, path)) / gains[w] for w, path in paths.items()}
    return shares


def kept_by_epochs(done: Records) -> dict[str, list[tuple[int, dict[str, float]]]]:
    """{student: (epochs, what it keeps) of each length}, for students of an ensemble that were trained for several
    lengths; the titles of such rows differ only in the epochs."""
    lines: dict[str, list[tuple[int, dict[str, float]]]] = {}
    for title, shares in kept_shares(done).items():
        if epochs := done[title][0]["settings"]["student"]["epochs"]:  # else chosen by the recipe
            lines.setdefault(title.removesuffix(f", {epochs} epochs"), []).append((epochs, shares))
    return {title: points for title, points in lines.items() if len(points) > 1}


def lengths(by_epochs: dict[str, list[tuple[int, dict[str, float]]]]) -> Figure:
    """What students keep of an ensemble's gain over one member, against the length of their training: a panel for each
    quality, a line for each student."""
    (_, shares), *_ = next(iter(by_epochs.values()))
    ticks = sorted({count for points in by_epochs.values() for count, _ in points})
    figure = Figure(figsize=(2.6 * len(shares), 3.6))
    figure.suptitle("What one pass keeps of the ensemble's gain over one network, by the epochs of its training")
    for axis, what in zip(figure.subplots(1, len(shares), sharey=True), shares):
        axis.axhline(1, color="black", linewidth=0.8)
        for (title, points), colour in zip(by_epochs.items(), cycle((BLUE, ORANGE, GREEN, PINK, GREY))):
            x, y = zip(*sorted((count, of[what]) for count, of in points))
            axis.plot(x, y, "o-", markersize=4, linewidth=1.2, color=colour, label=title)
        axis.set(xscale="log", xlabel="epochs", title=what)
        axis.set_xticks(ticks, ticks)
        axis.minorticks_off()
        axis.grid(linewidth=0.3)
    figure.axes[0].set_ylabel("share of the gain that is kept")
    figure.axes[0].yaxis.set_major_formatter(PercentFormatter(1))
    legend_below(figure, 4)
    return figure


def quality(done: Records) -> Figure:
    """What a prediction is worth against its arithmetic, in passes of a member: lines of MC-dropout by its passes, of
    ensembles by their members and of one network by its width, and a point for each student."""
    near = next(iter(every(done)[0]["ood"]))
    panels = {  # {what: path}
        "NLL (lower is better)": "before/nll",
        "AUROC of errors": "before/misclassification_auroc",
        f"AUROC of {near}, by entropy": f"ood/{near}/predictive_entropy/auroc",
    }
    kinds = ("mc_dropout", "ensemble", "deterministic")
    teachers = [of for of in done.values() if of[0]["kind"] == "teacher" and of[0]["teacher"] in kinds]
    dropout = [of for of in teachers if any(mean(of, rate, 0.0) for rate in RATES)]
    ensembles = [of for of in teachers if of[0]["teacher"] == "ensemble"]
    one_pass = mean(ensembles[0], FLOPS) / mean(ensembles[0], "draws")
    widths = [of for of in teachers if of[0]["teacher"] == "deterministic" and of not in dropout]
    one = [of for of in widths if is_member(of[0], ensembles[0][0])]
    lines = {
        "MC-dropout, by passes": (BLUE, dropout),
        "ensemble, by members": (GREEN, one + ensembles),
        "one network, by width": (PINK, widths if widths != one else []),
    }
    students = [of for of in done.values() if of[0]["kind"] == "student"]
    figure = Figure(figsize=(4 * len(panels), 4))
    figure.suptitle("Quality against cost")
    for axis, (what, path) in zip(figure.subplots(1, len(panels)), panels.items()):
        for label, (colour, rows) in lines.items():
            if not rows:
                continue
            points = sorted((mean(of, FLOPS) / one_pass, mean(of, path)) for of in rows)
            axis.plot(*zip(*points), "o-", color=colour, markersize=4, label=label)
        points = []
        for number, of in enumerate(students, 1):
            colour = ORANGE if of[0]["student"] in ("dirichlet", "logit_gaussian") else GREY
            x, y = mean(of, FLOPS) / one_pass, mean(of, path)
            axis.plot(x, y, "o", color=colour, markersize=5)
            points.append((y, x, number))
        step, height = np.ptp(axis.get_ylim()) / 30, -np.inf  # between labels, which do not overlap
        for y, x, number in sorted(points):
            height = max(y, height + step)
            axis.annotate(
                str(number), (x, y), (1.3 * x, height), va="center", fontsize=7,
                arrowprops={"arrowstyle": "-", "color": "grey", "linewidth": 0.4, "relpos": (0, 0.5)},
            )  # fmt: skip
        axis.set(xscale="log", xlabel="cost: arithmetic of a prediction, in passes", ylabel=what)
        axis.set_xticks(COSTS, COSTS)
        axis.minorticks_off()
        axis.grid(linewidth=0.3)
    figure.axes[0].legend()
    names = [f"{number}: {of[0]['title']}" for number, of in enumerate(students, 1)]
    figure.supxlabel(textwrap.fill("; ".join(names), 150), fontsize=8)
    return figure
