"""Faults, and what has to come of them. A trial ends as

held: the numbers of an undisturbed run, bit for bit; clear: one line that says what is wrong; or wrong: anything else.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

import compare
import data
import evaluate
import train_student
import train_teacher
from configs.schema import Config, Data, DataSet
from data import folder, humans
from methods import student, teacher
from training import artifact, cli
from training.run import begin
from uncertainty.cache import KIND, SampleCache

STAGES = {"teacher": train_teacher.main, "student": train_student.main, "evaluate": evaluate.main}
TINY = [
    "--config", "configs/digits.yaml", "--teacher.width", "0.125", "--student.width", "0.125", "--teacher.epochs", "3", "--student.epochs",
    "3", "--sampling.passes", "4", "--sampling.views", "[augmented]", "--evaluation.passes", "4", "--evaluation.bootstrap", "10",
    "--evaluation.speed_images", "4", "--evaluation.speed_passes", "2", "--data.ood", "[{source: noise}]", "--data.max_ood", "40",
    "--student.options", "{hidden: 16}", "--device", "cpu", "--dtype", "float32",
]  # fmt: skip


TEES: dict[int, subprocess.Popen] = {}  # of each process, what writes its output


def config_of(runs: Path) -> Config:
    """The experiment that is disturbed: seconds from end to end."""
    return cli.parse([*TINY, "--runs", str(runs)])[0]


def result(config: Config) -> dict[str, Any]:
    """What must not change: every tensor of a run, and every measured number of its metrics."""
    kinds = {path: path.stem if path.parent == config.folder else KIND for path in sorted(config.folder.rglob("*.safetensors"))}
    tensors = {path: artifact.load(path, kind)[0] for path, kind in kinds.items() if path.parent.name != "checkpoints"}
    metrics = artifact.read_json(config.folder / "metrics.json")
    sums = {path.name: artifact.checksum(value) for path, value in tensors.items()}
    return sums | {key: metrics[key] for key in ("teacher", "student", "agreement", "ood")}


def whole_run(runs: Path) -> dict[str, Any]:
    """An undisturbed run."""
    for stage in STAGES.values():
        stage(config_of(runs), False)
    return result(config_of(runs))


def outcome(work: Callable[[], bool]) -> str:
    """Of a call in this process, guarded as the scripts are: held if it returns true, clear if it ends with one line."""
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("hang")))
    signal.alarm(120)
    results = []
    try:
        cli.guard(lambda: results.append(work()))
        return "held" if results[0] else "wrong: other numbers"
    except SystemExit as end:
        return "clear" if end.code == 2 else f"wrong: code {end.code}"
    except BaseException as error:
        return f"wrong: {type(error).__name__}: {error} {traceback.format_exc(limit=-2)}"
    finally:
        signal.alarm(0)


def start(config: Config, stage: str, log: Path, limit: int | None = None, overwrite: bool = False) -> int:
    """A process that runs a stage, forked from this one, which has imported everything. limit: of the files that it writes, in bytes."""
    tee = subprocess.Popen(["tee", "-a", log], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)  # what is said is under no limit
    if pid := os.fork():
        tee.stdin.close()
        TEES[pid] = tee
        return pid
    os.setsid()
    os.dup2(tee.stdin.fileno(), 1)
    os.dup2(tee.stdin.fileno(), 2)
    sys.stdout, sys.stderr, code = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1), 0
    try:
        if limit:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        cli.guard(lambda: STAGES[stage](deepcopy(config), overwrite))
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    os._exit(code)


def ended(pids: list[int], log: Path, codes: tuple[int, ...]) -> str | None:
    """What was wrong with processes that are to end by one of these codes, or None."""
    for pid in pids:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        TEES.pop(pid).wait()
        text = log.read_text(errors="replace")
        if code not in codes or "Traceback" in text:
            return f"wrong: code {code}: {text[max(0, text.find('Traceback') - 200) :][:1500]}"
    return None


def disturbed(kind: str, runs: Path, stage: str, seed: int, expected: dict, seconds: float) -> str:
    """All stages, one of them with a fault before it is run again: the results are those of an undisturbed run.

    kill: three times, at a random moment, by a random signal, some of an --overwrite. disk: no file can grow beyond a random size.
    race: two processes run it at once.
    """
    rng = np.random.default_rng(seed)
    config, log = config_of(runs), runs / "out.log"
    for name in STAGES:
        if name == stage and kind == "kill":
            for number in rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT], 3).tolist():
                pid = start(config, stage, log, overwrite=seed % 3 == 0)
                time.sleep(rng.uniform(0, seconds))
                os.kill(pid, number)
                if wrong := ended([pid], log, (0, 130, -number)):
                    return wrong
        elif name == stage:
            limit = int(10 ** rng.uniform(2, 5.3)) if kind == "disk" else None
            if wrong := ended([start(config, stage, log, limit) for _ in range(1 + (kind == "race"))], log, (0, 2) if limit else (0,)):
                return wrong
        if wrong := ended([start(config, name, log)], log, (0,)):
            return wrong
    return "held" if result(config) == expected else "wrong: other numbers"


def torchrun(runs: Path, seed: int) -> str:
    """Two processes under torchrun are killed; the same command then ends well."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(29600 + seed)]
    command += ["train_teacher.py", *TINY, "--runs", str(runs)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(np.random.default_rng(seed).uniform(6, 16))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    trained = not done.returncode and len(artifact.load(runs / "digits/teacher.safetensors", "teacher")[1]["history"]) == 3
    return "held" if trained else f"wrong: {done.stderr[-1500:]}"


DAMAGES = ("bit", "bit", "bit", "zeros", "cut", "longer", "swapped", "foreign")


def damaged(content: bytes, how: str, rng: np.random.Generator, other: bytes) -> bytes:
    """A file's content after a fault: half of them near its beginning."""
    place = int(rng.integers(len(content) if rng.random() < 0.5 else min(len(content), 3000)))
    return {
        "bit": content[:place] + bytes([content[place] ^ 1 << int(rng.integers(8))]) + content[place + 1 :],
        "zeros": content[:place] + bytes(len(content[place : place + 64])) + content[place + 64 :],
        "cut": content[:place],
        "longer": content + rng.bytes(int(rng.integers(1, 100))),
        "swapped": other,
        "foreign": rng.bytes(int(rng.integers(0, 500))),
    }[how]


def readers(base: Path, runs: Path) -> dict[Path, Callable[[], bool]]:
    """Files of `runs`, a copy of the finished run in `base`, and of a user, and what reads each: true if it gives what it gave before."""
    config, before = config_of(runs), config_of(base)
    run, compute = begin(config, "test")
    trained = teacher.load_teacher(before, compute)
    tests = data.load(config.data.train, "test", config.data)
    kept = artifact.checksum(artifact.load(before.folder / student.FILE, "student")[0])
    photos = Data(decoded=str(runs / "decoded"), size=8, channels=1, augmentation=config.data.augmentation)
    source = DataSet(source="folder", root=str(runs / "photos"))
    files = [runs / f"photos/train/{name}" for name in ("a/0.jpg", "a/1.png", "b/2.png", "b/3.png")]
    for i, path in enumerate(files):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tests.images[i, ..., 0].numpy()).save(path)
    pixels = folder.load(source, "train", photos).images.clone()
    people, own, row = runs / "people.csv", runs / "own.yaml", runs / "row-0.json"
    lines = [f"{i},{name}," + ",".join(["5"] * 10) for i, name in enumerate(tests.names)]
    people.write_text("\n".join([",".join(["test_index", "image", *tests.classes]), *lines]))
    own.write_text(Path("configs/digits.yaml").read_text())
    artifact.write_json(row, {"settings": compare.plain(config)})
    cached = next(config.folder.glob("mc_samples/digits-reference-a*"))
    samples = artifact.load(cached, KIND)[0]["log_probs"]

    def same_samples() -> bool:
        cache = SampleCache(config, run, compute, trained.samplers("mc_dropout"), trained.checksum)
        return torch.equal(cache.reference(tests)[0][0].log_probs, samples.float())

    checkpoint = config.folder / "checkpoints/student.safetensors"
    return {
        config.folder / teacher.FILE: lambda: teacher.load_teacher(config, compute).checksum == trained.checksum,
        config.folder / student.FILE: lambda: (
            bool(student.load_student(config.folder))
            and artifact.checksum(artifact.load(config.folder / student.FILE, "student")[0]) == kept
        ),
        checkpoint: lambda: bool(artifact.load(checkpoint, "checkpoint")),
        cached: same_samples,
        next((runs / "decoded").iterdir()): lambda: torch.equal(folder.load(source, "train", photos).images, pixels),
        files[0]: lambda: len(folder.load(source, "train", photos)) == 4,
        files[1]: lambda: len(folder.load(source, "train", photos)) == 4,
        people: lambda: len(humans.load(people, tests)) == len(tests),
        own: lambda: bool(cli.parse(["--config", str(own)])),
        row: lambda: compare.finished(row, {}, config) is not None,
    }


def broken(files: dict[Path, Callable[[], bool]], number: int, seed: int) -> str:
    """One file, one damage; afterwards the file is as it was."""
    file, how = list(files)[number], DAMAGES[seed % len(DAMAGES)]
    content, other = file.read_bytes(), list(files)[(number + 1 + seed % 8) % len(files)].read_bytes()
    try:
        file.write_bytes(damaged(content, how, np.random.default_rng(seed), other))
        if how == "foreign" and file.suffix == ".safetensors" and seed % 16 > 7:
            save_file({"x": torch.zeros(3)}, file, {"kind": "teacher", "metadata": json.dumps({"a": 1})})
        return outcome(files[file])
    finally:
        file.write_bytes(content)


BAD = (-1, 0, float("nan"), float("inf"), True, 1.5, 10**30, "", "wrong", "../x", "x" * 300, [], [1, 2, 3], [-0.5], {}, {"x": 1}, None)
USES = {"teacher": ["teacher", "student"], "sampling": ["student"], "student": ["student"], "evaluation": ["evaluate"]}


def settings(kind: Any = Config, prefix: str = "") -> Iterator[str]:
    """Every setting of a dataclass, such as `teacher.lr` and `data.ood.0.name`."""
    for field in fields(kind):
        of, name = get_type_hints(kind)[field.name], f"{prefix}{field.name}"
        yield name
        if get_origin(of) is list and is_dataclass(get_args(of)[0]):
            yield from settings(get_args(of)[0], f"{name}.0.")
        elif is_dataclass(of):
            yield from settings(of, f"{name}.")


def bad_setting(runs: Path, key: str, value: Any, base: Path) -> str:
    """A YAML file with one bad value: it is refused, or the stages that use it end well or with one line."""
    plain = json.loads(json.dumps(compare.plain(config_of(runs)))) | {"rows": [{"title": "x"}]}
    part, (*parents, last) = plain, key.split(".")
    for name in parents:
        part = part[int(name) if name.isdigit() else name]
    part[last] = value
    (runs / "bad.yaml").write_text(yaml.safe_dump(plain))
    used = USES.get(key.split(".")[0], list(STAGES))

    def work() -> bool:
        config, _ = cli.parse(["--config", str(runs / "bad.yaml")])
        if key.split(".")[0] not in ("rows", "runs") and key != "data.decoded":  # these would be written to
            shutil.copytree(base / "digits", config.folder, ignore=shutil.ignore_patterns(*(f"{stage}.safetensors" for stage in used)))
            for stage in used:
                STAGES[stage](deepcopy(config), False)
        return True

    return outcome(work)
