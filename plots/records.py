"""The records of a comparison, which compare.py wrote."""

from pathlib import Path

from data.corruptions import SEVERITIES
from methods import student_method, teacher_method
from plots.cells import values
from training import artifact

Record = dict
Records = dict[str, list[Record]]  # {title: one for each seed}


def load(folder: Path) -> Records:
    """Every file of a comparison, by title, in the order of the config.

    Each record gets `own`, the detection of each OOD set by the method's own score. The equivalent passes of
    what does not correlate with the teacher, such as a constant, are 0.
    """
    records = [artifact.read_json(path) for path in folder.glob("*-[0-9]*.json")]
    by_title = {}
    for record in sorted(records, key=lambda r: (r["place"], r["seed"])):
        record["own"] = {name: by[own_score(record)] for name, by in record.get("ood", {}).items()}
        for entry in [*values([record], "agreement/*/*"), *values([record], "shifts/*/*/agreement/*")]:
            if not (entry["pearson"] or 0) > 0:
                entry["equivalent_passes"] = 0.0
        by_title.setdefault(record["title"], []).append(record)
    return by_title


def own_score(record: Record) -> str:
    """The score that a method's authors use for OOD inputs."""
    method = student_method(record["student"]) if record["student"] else teacher_method(record["teacher"])
    return method.ood_score


def finished(by_title: Records) -> Records:
    """Without the seeds that failed, and without the titles of which all failed."""
    done = {title: [r for r in records if "failed" not in r] for title, records in by_title.items()}
    return {title: records for title, records in done.items() if records}


def every(by_title: Records) -> list[Record]:
    """The records of all titles and seeds."""
    return [record for records in by_title.values() for record in records]


def first_set(records: list[Record]) -> str:
    """The data set in distribution: the first one on which a record has an agreement with a teacher."""
    return next((name for agreement in values(records, "agreement") for name in agreement), "")


def by_severity(record: Record) -> dict[str, list[Record]]:
    """What a record has of all covariate shifts at each severity (0: without a shift), and of class priors alone, which
    are none of those. Empty for a record without shifts."""
    shifts = dict(record.get("shifts", {}))
    priors = shifts.pop("class_priors", {})
    levels = {str(severity): values([shifts], f"*/{severity}") for severity in (0, *SEVERITIES)}
    levels |= {f"class priors {severity}": [entry] for severity, entry in priors.items()}
    return {level: entries for level, entries in levels.items() if entries}
