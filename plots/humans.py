"""Whether networks and people are unsure of the same images."""

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray

from plots.style import COLOURS, MEASURE_COLOURS, MEASURE_NAMES, NAMES, panels, plain_name
from uncertainty.agreement import calibration
from uncertainty.distribution import Values


def humans(entropy: ndarray, student: Values, metrics: dict[str, dict]) -> Figure:
    """Left: rank correlation of the entropy of people's labels [N] with each measure. Right: its mean in 20 bins of the
    student's."""
    best = max(metrics["student"][measure]["spearman"] for measure in MEASURE_NAMES)
    title = f"The student's uncertainty and people's disagreement: rank correlation up to {best:.2f}"
    figure, axes = panels(title, ["entropy"], ["correlation", "bins"], 4.0)
    left, right = axes.values()
    place = np.arange(len(MEASURE_NAMES))
    for shift, who in ((-0.2, "teacher"), (0.2, "student")):
        value = np.array([metrics[who][measure]["spearman"] for measure in MEASURE_NAMES])
        ends = np.array([metrics[who][measure]["spearman_ci"] for measure in MEASURE_NAMES]).T
        left.barh(place + shift, value, 0.38, xerr=abs(ends - value), color=COLOURS[who], label=NAMES[who])
    left.set_yticks(place, [plain_name(measure) for measure in MEASURE_NAMES])
    left.invert_yaxis()
    left.set_xlabel("Spearman with human entropy (95% interval)")
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    for measure, colour in MEASURE_COLOURS.items():
        _, mean = calibration(student[measure], entropy)
        quantile = (np.arange(len(mean)) + 0.5) / len(mean)
        right.plot(quantile, mean, "o-", ms=3, color=colour, label=plain_name(measure))
    right.set(xlabel="quantile of the student's measure", ylabel="mean human entropy, nats")
    right.legend()
    return figure
