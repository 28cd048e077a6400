"""All faults, in parts: the same command goes on until the table in docs/reliability.md is whole.

python -m tests.faults --runs /tmp/faults --minutes 40
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import cache, partial, reduce
from itertools import takewhile
from multiprocessing.context import ForkProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

import data
import evaluate
import train_student
import train_teacher
from configs import cli
from configs.schema import Config, DataSet, Row
from data import humans
from methods import student, teacher
from training import artifact, script
from training.bar import progress_bar
from training.compute import choose
from uncertainty.cache import KIND

PAGE = Path("docs/reliability.md")
KINDS = {
    "kill": "kills, three a trial", "disk": "a full disk", "race": "two processes with the same command",
    "file": "broken files", "setting": "bad settings",
}  # fmt: skip
STAGES = {"teacher": train_teacher.main, "student": train_student.main, "evaluate": evaluate.main}
TINY = (
    "--config configs/digits.yaml --teacher.width 0.125 --student.width 0.125 --teacher.epochs 3 --student.epochs 3 "
    "--sampling.passes 4 --sampling.views [augmented] --evaluation.passes 4 --evaluation.bootstrap 10 "
    '--data.ood [{"source":"noise"}] --data.max_ood 40 --student.options {"hidden":16} --device cpu --dtype float32'
).split()
DAMAGES = ("bit", "bit", "bit", "zeros", "cut", "longer", "swapped", "foreign")
BAD = (
    -1, 0, float("nan"), float("inf"), True, 1.5, 10**30, "", "wrong", "../x", "x" * 300, [], [1, 2], {},
    {"x": 1}, None,
)  # fmt: skip
USES = {"teacher": ["teacher", "student"], "sampling": ["student"], "student": ["student"], "evaluation": ["evaluate"]}


def config_of(runs: Path) -> Config:
    """The experiment that is disturbed: seconds from end to end."""
    return cli.parse([*TINY, "--runs", str(runs)])[0]


def plain(config: Config) -> dict[str, Any]:
    """Its settings, as JSON values."""
    return json.loads(json.dumps(asdict(config)))


def keys_of(settings: dict[str, Any], prefix: str = "") -> list[str]:
    """Every setting and every group of settings, by its name."""
    found = []
    for name, value in settings.items():
        found += [prefix + name, *(keys_of(value, f"{prefix}{name}.") if isinstance(value, dict) else [])]
    return found


KEYS = keys_of(plain(config_of(Path("runs"))))
KEYS += [f"{place}.0.{field.name}" for place, kind in (("data.ood", DataSet), ("rows", Row)) for field in fields(kind)]
ALL = [f"file {file} {seed}" for file in range(9) for seed in range(120)]
ALL += [
    f"{kind} {stage} {seed}"
    for kind, count in (("kill", 24), ("disk", 9), ("race", 4))
    for seed in range(count)
    for stage in STAGES
]
ALL += [f"setting {key} {number}" for key in KEYS for number in range(len(BAD))]


def result(config: Config) -> dict[str, Any]:
    """What must not change: every tensor of a run, and every measured number of its metrics."""
    metrics = artifact.read_json(config.folder / "metrics.json")
    found = {key: metrics[key] for key in ("teacher", "student", "agreement", "ood")}
    for path in config.folder.rglob("*.safetensors"):
        if path.parent.name != "checkpoints":
            found[path.name] = tensors(path, path.stem if path.parent == config.folder else KIND)
    return found


def tensors(path: Path, kind: str) -> str:
    """A checksum of a file's."""
    return artifact.checksum(artifact.load(path, kind)[0])


@cache
def undisturbed(runs: Path) -> tuple[dict[str, Any], float]:
    """What has to come out, and the seconds of the longest stage."""
    config, started = config_of(runs), time.monotonic()
    for stage in STAGES.values():
        stage(config, False)
    return result(config), (time.monotonic() - started) / 2


def outcome(trial: Callable[[], None], seconds: int = 600) -> str:
    """Of a trial, guarded as the scripts are: held; clear, if it ends with one line; wrong, if it raises anything else
    or hangs."""
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(AssertionError("hang")))
    signal.alarm(seconds)
    try:
        script.guard(trial)
        return "held"
    except SystemExit as end:
        if end.code == 130:  # Ctrl-C ends the trials
            raise KeyboardInterrupt from None
        return "clear" if end.code == 2 else f"wrong: code {end.code}"
    except BaseException as error:
        return f"wrong: {type(error).__name__}: {error} {traceback.format_exc(limit=-2)}"
    finally:
        signal.alarm(0)


def start(config: Config, stage: str, overwrite: bool = False, limit: int | None = None) -> tuple[ForkProcess, TextIO]:
    """A process that runs a stage, forked from this one, which has imported everything, and what it says. limit: of a
    file, in bytes."""
    end, beginning = os.pipe()  # which is under no limit

    def work() -> None:
        sys.stdout = sys.stderr = os.fdopen(beginning, "w", buffering=1)
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        script.guard(lambda: STAGES[stage](config, overwrite))

    process = ForkProcess(target=work, daemon=True)
    process.start()
    os.close(beginning)
    return process, os.fdopen(end, errors="replace")


def await_end(process: ForkProcess, said: TextIO, *codes: int) -> None:
    """Raise AssertionError if a process ends by none of these codes, or with a traceback."""
    # Python drops a Ctrl-C that arrives in a weak reference's callback, and says so; the stage goes on.
    text = re.sub(r"Exception ignored in: .*?\nKeyboardInterrupt: \n", "", said.read(), flags=re.DOTALL)
    process.join()
    assert process.exitcode in codes and "Traceback" not in text, f"code {process.exitcode}: {text[-1500:]}"


def disturbed(kind: str, base: Path, runs: Path, stage: str, seed: int) -> None:
    """All stages, one of them disturbed before it is run again: by kills, three at random moments, a third of them of
    an --overwrite; by a disk on which no file can grow beyond a random size; or by a race of two. The numbers are those
    of an undisturbed run."""
    rng, config, names = np.random.default_rng(seed), config_of(runs), list(STAGES)
    (expected, seconds), place = undisturbed(base), names.index(stage)
    for name in names[:place]:
        await_end(*start(config, name), 0)
    if kind == "kill":
        for number in rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT], 3).tolist():
            process, said = start(config, stage, overwrite=seed % 3 == 0)
            time.sleep(rng.uniform(0.02, seconds))  # before, Ctrl-C would meet multiprocessing
            os.kill(process.pid, number)
            await_end(process, said, 0, 130, -number)
    elif kind == "disk":
        await_end(*start(config, stage, limit=int(10 ** rng.uniform(2, 5.3))), 0, 2)
    else:
        for both in [start(config, stage), start(config, stage)]:
            await_end(*both, 0)
    for name in names[place:]:
        await_end(*start(config, name), 0)
    assert result(config) == expected, "other numbers"


@cache
def readers(base: Path) -> dict[Path, tuple[Callable[[], Any], Any]]:
    """Files of a copy of a finished run and of a user, what reads each, and what it gives: of a user's file, that it
    can be read."""
    runs = shutil.copytree(base, base.with_name("files"))
    config, run = config_of(runs), runs / "digits"
    tests, compute = data.load(config.data.train, "test", config.data), choose(config.device, config.dtype)
    people, samples = runs / "people.csv", next((run / "mc_samples").glob("*train-augmented*"))
    votes = [f"{i},{name}" + 10 * ",5" for i, name in enumerate(tests.names)]
    people.write_text("\n".join([",".join(["test_index", "image", *tests.classes]), *votes]))
    images = [runs / f"photos/train/{name}" for name in ("a/0.jpg", "a/1.png", "b/2.png", "b/3.png")]
    for path, image in zip(images, tests.images):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0].numpy()).save(path)
    source, decoded = DataSet(source="folder", root=str(runs / "photos")), runs / "decoded"
    photos = partial(data.load, source, "train", replace(config.data, decoded=str(decoded)))
    photos()  # which decodes them

    reads: dict[Path, Callable[[], Any]] = {
        run / "teacher.safetensors": lambda: teacher.load_teacher(config, compute).checksum,
        run / "student.safetensors": lambda: artifact.checksum(student.load_student(run).state_dict()),
        run / "checkpoints/student.safetensors": lambda: tensors(run / "checkpoints/student.safetensors", "checkpoint"),
        samples: lambda: tensors(samples, KIND),
        next(decoded.iterdir()): lambda: artifact.checksum({"": photos().images}),
        **{image: lambda: len(photos()) for image in images[:2]},
        people: lambda: len(humans.load(people, tests)),
        run / "config.yaml": lambda: bool(cli.parse(["--config", str(run / "config.yaml")])),
    }
    return {path: (read, read()) for path, read in reads.items()}


def broken(base: Path, runs: Path, number: str, seed: int) -> None:
    """One file, one damage, half of them near its beginning: what is read is what was read before. Afterwards the file
    is as it was."""
    files, rng, how = list(readers(base)), np.random.default_rng(seed), DAMAGES[seed % len(DAMAGES)]
    file, other = files[int(number)], files[(int(number) + 1 + seed % 8) % len(files)]
    (read, before), content = readers(base)[file], file.read_bytes()
    place = int(rng.integers(len(content) if rng.random() < 0.5 else min(len(content), 3000)))
    damaged = {
        "bit": content[:place] + bytes([content[place] ^ 1 << int(rng.integers(8))]) + content[place + 1 :],
        "zeros": content[:place] + bytes(len(content[place : place + 64])) + content[place + 64 :],
        "cut": content[:place],
        "longer": content + rng.bytes(int(rng.integers(1, 100))),
        "swapped": other.read_bytes(),
        "foreign": rng.bytes(int(rng.integers(0, 500))),
    }
    try:
        file.write_bytes(damaged[how])
        if how == "foreign" and file.suffix == ".safetensors" and seed % 16 > 7:
            save_file({"x": torch.zeros(3)}, file, {"kind": "teacher", "metadata": '{"a": 1}'})
        assert read() == before, "other numbers"
    finally:
        file.write_bytes(content)


def bad_setting(base: Path, runs: Path, key: str, number: int) -> None:
    """A YAML file with one bad value: it is refused, or the stages that use it end well or with one line."""
    settings = plain(config_of(runs)) | {"rows": [vars(Row("x"))]}
    *parents, last = key.split(".")
    reduce(lambda part, name: part[int(name) if name.isdigit() else name], parents, settings)[last] = BAD[number]
    (runs / "bad.yaml").write_text(yaml.safe_dump(settings))
    config, _ = cli.parse(["--config", str(runs / "bad.yaml")])
    if key.split(".")[0] not in ("rows", "runs") and key != "data.decoded":  # these would be written to
        used = USES.get(key.split(".")[0], STAGES)
        made = ["metrics.json", *(f"{stage}.safetensors" for stage in used)]  # of other settings: all would be refused
        shutil.copytree(base / "digits", config.folder, ignore=shutil.ignore_patterns(*made))
        for stage in used:
            STAGES[stage](config, False)


def attempt(folder: Path, trial: str) -> str:
    """The outcome of one trial; `folder` keeps the undisturbed run."""
    kind, what, number = trial.split()
    undisturbed(folder / "base")
    work = {"file": broken, "setting": bad_setting}.get(kind, partial(disturbed, kind))
    with TemporaryDirectory(dir=folder) as runs:
        return outcome(lambda: work(folder / "base", Path(runs), what, int(number)))


def table(outcomes: dict[str, str]) -> str:
    """Tried, held, clear, wrong of each kind."""
    lines = ["| fault | tried | held | clear | wrong |", "|---|---|---|---|---|"]
    for kind, meaning in KINDS.items():
        said = [outcome.split(":")[0] for trial, outcome in outcomes.items() if trial.startswith(kind)]
        counts = [len(said), *map(said.count, ("held", "clear", "wrong"))]
        lines.append(f"| {' | '.join(map(str, [meaning, *counts]))} |")
    return "\n".join(lines)


def main() -> None:
    """Trials until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/faults"), help="where it works and keeps outcomes.json")
    parser.add_argument("--minutes", type=float, default=40, help="how long")
    parser.add_argument("--only", default="", choices=["", *KINDS], help="one kind of fault")
    options = parser.parse_args()
    torch.set_num_threads(1)  # processes are forked from this one
    options.runs.mkdir(parents=True, exist_ok=True)
    file, until = options.runs / "outcomes.json", time.monotonic() + 60 * options.minutes
    outcomes = artifact.read_json(file) if file.exists() else {}
    chosen = [trial for trial in ALL if trial.startswith(options.only) and trial not in outcomes]
    with TemporaryDirectory(dir=options.runs.resolve()) as folder:
        for trial in takewhile(lambda _: time.monotonic() < until, progress_bar(chosen, "faults", unit="trial")):
            outcomes[trial] = attempt(Path(folder), trial)
            artifact.write_json(file, outcomes)
    made = table(outcomes)
    print(made, *(f"{trial}: {said}" for trial, said in outcomes.items() if said.startswith("wrong")), sep="\n")
    PAGE.write_text(re.sub("(?s)(?<=<!-- faults -->\n).*(?=<!-- end -->)", f"\n{made}\n\n", PAGE.read_text()))


if __name__ == "__main__":
    main()
