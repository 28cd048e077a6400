"""All faults, in parts: the same command goes on until the table in docs/reliability.md is whole.

    python -m tests.faults --runs /tmp/faults --minutes 40
"""

import argparse
import json
import shutil
import time
from functools import cached_property
from pathlib import Path

import torch

from tests.faults import trials
from training import artifact
from training.bar import progress_bar

PAGE = Path("docs/reliability.md")
KINDS = {"kill": "kills of a stage at a random moment, three a trial", "disk": "a file that cannot grow (a full disk)",
         "race": "two processes with the same command", "torchrun": "kills of torchrun with two processes",
         "file": "broken files", "setting": "bad settings"}  # fmt: skip


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

    def empty(self) -> Path:
        """For one trial."""
        shutil.rmtree(self.folder / "trial", ignore_errors=True)
        (self.folder / "trial").mkdir()
        return self.folder / "trial"

    def run(self, kind: str, what: str, number: int) -> str:
        """The outcome of one trial."""
        match kind:
            case "kill" | "disk" | "race":
                return trials.disturbed(kind, self.empty(), what, number, *self.base)
            case "torchrun":
                return trials.torchrun_killed(self.empty(), number)
            case "setting":
                return trials.bad_setting(self.empty(), what, trials.BAD[number], self.folder / "base") if self.base else ""
        files = list(self.readers)
        place, how = int(what), trials.DAMAGES[number % len(trials.DAMAGES)]
        return trials.broken(files[place], self.readers[files[place]], how, number, files[(place + 1 + number % 8) % len(files)])


def all_trials() -> list[tuple[str, str, int]]:
    """Kind, what is disturbed, number."""
    found = [("file", str(file), number) for file in range(10) for number in range(120)]
    for kind, count in (("kill", 24), ("disk", 9), ("race", 4)):
        found += [(kind, stage, number) for number in range(count) for stage in trials.STAGES]
    found += [("torchrun", "teacher", number) for number in range(6)]
    return found + [("setting", key, number) for key in trials.settings() for number in range(len(trials.BAD))]


def table(outcomes: dict[str, str]) -> str:
    """Tried, held, clear, wrong of each kind, and what was wrong."""
    lines = ["| fault | tried | held | clear | wrong |", "|---|---|---|---|---|"]
    for kind, meaning in KINDS.items():
        mine = [outcome for name, outcome in outcomes.items() if name.startswith(kind)]
        counts = [sum(outcome.startswith(word) for outcome in mine) for word in ("held", "clear", "wrong")]
        lines.append(f"| {meaning} | {len(mine) * (3 if kind == 'kill' else 1)} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Trials until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/faults"), help="where it works and keeps outcomes.json (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=40, help="how long (default: %(default)s)")
    parser.add_argument("--only", default="", help="trials whose name begins so")
    options = parser.parse_args()
    torch.set_num_threads(1)  # processes are forked from this one
    options.runs.mkdir(parents=True, exist_ok=True)
    file, bench = options.runs.resolve() / "outcomes.json", Bench(options.runs.resolve())
    outcomes = artifact.read_json(file) if file.exists() else {}
    chosen = {" ".join(map(str, trial)): trial for trial in all_trials() if trial[0].startswith(options.only)}
    until = time.monotonic() + 60 * options.minutes
    with progress_bar(desc="faults", total=len(chosen), initial=sum(name in outcomes for name in chosen)) as bar:
        for name, trial in chosen.items():
            if name not in outcomes and time.monotonic() < until:
                outcomes[name] = bench.run(*trial)
                file.write_text(json.dumps(outcomes, indent=1))
                bar.update()
                if outcomes[name].startswith("wrong"):
                    bar.write(f"{name}: {outcomes[name]}")
    text = PAGE.read_text()
    start, end = "<!-- faults -->\n", "<!-- end -->"
    PAGE.write_text(f"{text.split(start)[0]}{start}\n{table(outcomes)}\n\n{end}{text.split(end)[1]}")


if __name__ == "__main__":
    main()
