"""All faults, in parts: the same command goes on until the table in docs/reliability.md is whole.

    python -m tests.faults --runs /tmp/faults --minutes 40
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tests.faults import trials
from training import artifact
from training.bar import progress_bar

PAGE = Path("docs/reliability.md")
KINDS = {"kill": "kills of a stage at a random moment, three a trial", "disk": "a file that cannot grow (a full disk)",
         "race": "two processes with the same command", "torchrun": "kills of torchrun with two processes",
         "file": "broken files", "setting": "bad settings"}  # fmt: skip


def all_trials(folder: Path) -> dict[str, Callable[[], str]]:
    """Every trial, by name; those that need the undisturbed run make it first."""
    base = folder / "base"
    state: dict = {}

    def expected() -> dict:
        if "expected" not in state:
            shutil.rmtree(base, ignore_errors=True)
            started = time.monotonic()
            state["expected"], state["seconds"] = trials.whole_run(base), (time.monotonic() - started) / 2
        return state["expected"]

    def fresh() -> Path:
        shutil.rmtree(folder / "trial", ignore_errors=True)
        (folder / "trial").mkdir(parents=True)
        return folder / "trial"

    def file_trial(number: int, how: str, seed: int) -> str:
        if "readers" not in state:
            expected()
            shutil.copytree(base, fresh().parent / "files", dirs_exist_ok=False)
            state["readers"] = trials.readers(base, folder / "files")
        files = list(state["readers"])
        return trials.broken(files[number], state["readers"][files[number]], how, seed, files[(number + 1 + seed % 8) % len(files)])

    found = {}
    for seed in range(24):
        for stage in trials.STAGES:
            found[f"kill {stage} {seed}"] = lambda stage=stage, seed=seed: trials.killed(
                fresh(), stage, seed, expected(), dict.fromkeys(trials.STAGES, state["seconds"])
            )
    for seed in range(9):
        for stage in trials.STAGES:
            found[f"disk {stage} {seed}"] = lambda stage=stage, seed=seed: trials.full_disk(fresh(), stage, seed, expected())
    for seed in range(4):
        for stage in trials.STAGES:
            found[f"race {stage} {seed}"] = lambda stage=stage: trials.race(fresh(), stage, expected())
    for seed in range(6):
        found[f"torchrun {seed}"] = lambda seed=seed: trials.torchrun_killed(fresh(), seed)
    for number in range(10):
        for place, how in enumerate(trials.DAMAGES):
            for seed in range(15):
                found[f"file {number} {how}{place} {seed}"] = lambda *a, a=(number, how, 100 * place + seed): file_trial(*a)
    for key in trials.settings():
        for place, value in enumerate(trials.BAD):
            found[f"setting {key} {place}"] = lambda key=key, value=value: trials.bad_setting(fresh(), key, value)
    return found


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
    file = options.runs.resolve() / "outcomes.json"
    outcomes = artifact.read_json(file) if file.exists() else {}
    chosen = {name: trial for name, trial in all_trials(options.runs.resolve()).items() if name.startswith(options.only)}
    until = time.monotonic() + 60 * options.minutes
    with progress_bar(desc="faults", total=len(chosen), initial=sum(name in outcomes for name in chosen)) as bar:
        for name, trial in chosen.items():
            if name not in outcomes and time.monotonic() < until:
                outcomes[name] = trial()
                file.write_text(json.dumps(outcomes, indent=1))
                bar.update()
                if outcomes[name].startswith("wrong"):
                    bar.write(f"{name}: {outcomes[name]}")
    text = PAGE.read_text()
    start, end = "<!-- faults -->\n", "<!-- end -->"
    PAGE.write_text(f"{text.split(start)[0]}{start}\n{table(outcomes)}\n\n{end}{text.split(end)[1]}")


if __name__ == "__main__":
    main()
