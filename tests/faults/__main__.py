"""All faults, in parts: the same command goes on until the table in docs/reliability.md is whole.

    python -m tests.faults --runs /tmp/faults --minutes 40
"""

import argparse
import shutil
import time
from functools import cached_property
from pathlib import Path

import torch

from tests.faults import trials
from training import artifact
from training.bar import progress_bar

PAGE = Path("docs/reliability.md")
KINDS = {"kill": "kills, three a trial", "disk": "a full disk", "race": "two processes with the same command", "torchrun": "kills of torchrun",
         "file": "broken files", "setting": "bad settings"}  # fmt: skip
ALL = [("file", str(file), seed) for file in range(10) for seed in range(120)]
ALL += [(kind, stage, seed) for kind, count in (("kill", 24), ("disk", 9), ("race", 4)) for seed in range(count) for stage in trials.STAGES]
ALL += [("torchrun", "teacher", seed) for seed in range(6)]
ALL += [("setting", key, number) for key in trials.settings() for number in range(len(trials.BAD))]


class Bench:
    """The undisturbed run, made when it is first needed, and an empty folder for each trial."""

    def __init__(self, folder: Path):
        self.folder = folder

    @cached_property
    def base(self) -> tuple[dict, float]:
        """What has to come out, and the seconds of the longest stage."""
        shutil.rmtree(self.folder / "base", ignore_errors=True)
        started = time.monotonic()
        return trials.whole_run(self.folder / "base"), (time.monotonic() - started) / 2

    @cached_property
    def readers(self) -> dict:
        """Copies of files, and what reads them."""
        assert self.base
        shutil.rmtree(self.folder / "files", ignore_errors=True)
        shutil.copytree(self.folder / "base", self.folder / "files")
        return trials.readers(self.folder / "base", self.folder / "files")

    def run(self, kind: str, what: str, number: int) -> str:
        """The outcome of one trial."""
        if kind == "file":
            return trials.broken(self.readers, int(what), number)
        empty, expected = self.folder / "trial", self.base
        shutil.rmtree(empty, ignore_errors=True)
        empty.mkdir()
        if kind == "torchrun":
            return trials.torchrun(empty, number)
        if kind == "setting":
            return trials.bad_setting(empty, what, trials.BAD[number], self.folder / "base")
        return trials.disturbed(kind, empty, what, number, *expected)


def table(outcomes: dict[str, str]) -> str:
    """Tried, held, clear, wrong of each kind."""
    lines = ["| fault | tried | held | clear | wrong |", "|---|---|---|---|---|"]
    for kind, meaning in KINDS.items():
        mine = [outcome for name, outcome in outcomes.items() if name.startswith(kind)]
        counts = [sum(outcome.startswith(word) for outcome in mine) for word in ("held", "clear", "wrong")]
        lines.append(f"| {meaning} | {len(mine)} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


def main() -> None:
    """Trials until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/faults"), help="where it works and keeps outcomes.json (default: %(default)s)"
    )
    parser.add_argument("--minutes", type=float, default=40, help="how long (default: %(default)s)")
    parser.add_argument("--only", default="", choices=["", *KINDS], help="one kind of fault")
    options = parser.parse_args()
    torch.set_num_threads(1)  # processes are forked from this one
    bench, file = Bench(options.runs.resolve()), options.runs.resolve() / "outcomes.json"
    outcomes = artifact.read_json(file) if file.exists() else {}
    chosen = [trial for trial in ALL if trial[0].startswith(options.only) and " ".join(map(str, trial)) not in outcomes]
    until = time.monotonic() + 60 * options.minutes
    for trial in progress_bar(chosen, "faults", unit="trial"):
        if time.monotonic() > until:
            break
        outcome = outcomes[" ".join(map(str, trial))] = bench.run(*trial)
        artifact.write_json(file, outcomes)
        if outcome.startswith("wrong"):
            print(trial, outcome)
    print(table(outcomes))
    start, end = "<!-- faults -->\n", "<!-- end -->"
    head, rest = PAGE.read_text().split(start)
    PAGE.write_text(f"{head}{start}\n{table(outcomes)}\n\n{end}{rest.split(end)[1]}")


if __name__ == "__main__":
    main()
