"""The figures of an evaluation: functions of arrays that return a matplotlib Figure."""

from plots.agreement import correlation_by_passes, histograms, scale, teacher_against_student
from plots.decisions import decisions_by_passes, reliability, risk_coverage, roc
from plots.humans import humans
from plots.images import extremes
from plots.maps import maps
from plots.training import training_curves
