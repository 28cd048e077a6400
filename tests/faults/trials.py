"""Faults, and what has to come of them. A trial ends as

held: the numbers of an undisturbed run, bit for bit; clear: one line that says what is wrong; or wrong: anything else.
"""

import copy
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
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

import compare
import evaluate
import train_student
import train_teacher
from configs.schema import Config, Data, DataSet
from data import folder, humans
from data import load as load_data
from methods import student, teacher
from training import artifact, cli
from training.run import begin
from uncertainty.cache import SampleCache

STAGES = {"teacher": train_teacher.main, "student": train_student.main, "evaluate": evaluate.main}
TINY = [
    "--config", "configs/digits.yaml", "--teacher.width", "0.125", "--student.width", "0.125", "--teacher.epochs", "3", "--student.epochs",
    "3", "--sampling.passes", "4", "--sampling.views", "[augmented]", "--evaluation.passes", "4", "--evaluation.bootstrap", "10",
    "--evaluation.speed_images", "4", "--evaluation.speed_passes", "2", "--data.ood", "[{source: noise}]", "--data.max_ood", "40",
    "--student.hidden", "16", "--device", "cpu", "--dtype", "float32",
]  # fmt: skip
Trial = tuple[str, Callable[[], str]]  # its name, and what gives its outcome


def config_of(runs: Path, *more: str) -> Config:
    """The experiment that is disturbed: seconds from end to end."""
    return cli.parse([*TINY, "--runs", str(runs), *more])[0]


def result(config: Config) -> dict[str, Any]:
    """What must not change: every tensor of a run, and every measured number of its metrics."""
    tensors = {}
    for path in sorted(config.folder.rglob("*.safetensors")):
        kind = path.stem if path.parent == config.folder else "cache of samples"
        if path.parent.name != "checkpoints":
            tensors |= {f"{path.name} {name}": value for name, value in artifact.load(path, kind)[0].items()}
    metrics = artifact.read_json(config.folder / "metrics.json")
    return {"tensors": artifact.checksum(tensors), **{key: metrics[key] for key in ("teacher", "student", "agreement", "ood")}}


def whole_run(runs: Path) -> dict[str, Any]:
    """An undisturbed run."""
    config = config_of(runs)
    for stage in STAGES.values():
        stage(copy.deepcopy(config), False)
    return result(config)


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
    """A process that runs a stage; its number. limit: the largest file that it can write, as if the disk was full."""
    if pid := os.fork():
        return pid
    os.setsid()
    output = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    code = 0
    try:
        cli.guard(lambda: STAGES[stage](copy.deepcopy(config), overwrite))
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def ended(pids: list[int], log: Path, codes: tuple[int, ...]) -> str | None:
    """What was wrong with processes that are to end by one of these codes, or None."""
    for pid in pids:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        text = log.read_text(errors="replace")
        if code not in codes or "Traceback" in text:
            return f"wrong: code {code}: {text[max(0, text.find('Traceback') - 200) :][:1500]}"
    return None


def disturbed(kind: str, runs: Path, stage: str, seed: int, expected: dict, seconds: float) -> str:
    """All stages, one of them with a fault before it is run again: the results are those of an undisturbed run.

    kill: three times, at a random moment, by a random signal, of an --overwrite as well. disk: no file can grow beyond a random size.
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


def torchrun_killed(runs: Path, seed: int) -> str:
    """Two processes under torchrun, of which one is killed; the same command then ends well."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(29600 + seed % 300)]
    command += ["train_teacher.py", *TINY, "--runs", str(runs)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(np.random.default_rng(seed).uniform(6, 16))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        return f"wrong: {done.stderr[-1500:]}"
    return "held" if artifact.load(runs / "digits/teacher.safetensors", "teacher")[1]["history"] else "wrong: no history"


# Broken files, tried by what reads them, in this process.


def damaged(content: bytes, how: str, rng: np.random.Generator, other: bytes) -> bytes:
    """A file's content after a fault."""
    place = int(rng.integers(len(content))) if rng.random() < 0.5 else int(rng.integers(min(len(content), 3000)))
    match how:
        case "bit":
            return content[:place] + bytes([content[place] ^ 1 << int(rng.integers(8))]) + content[place + 1 :]
        case "zeros":
            return content[:place] + bytes(len(content[place : place + 64])) + content[place + 64 :]
        case "cut":
            return content[:place]
        case "longer":
            return content + rng.bytes(int(rng.integers(1, 100)))
        case "swapped":
            return other
    return rng.bytes(int(rng.integers(0, 500)))


DAMAGES = ("bit", "bit", "bit", "zeros", "cut", "longer", "swapped", "foreign")


def readers(base: Path, runs: Path) -> dict[Path, Callable[[], bool]]:
    """Files of a copy of a finished run and of a user, and what reads each: true if it gives what it gave before."""
    config = config_of(runs)
    before = config_of(base)
    run, compute = begin(config, "test")
    trained = teacher.load_teacher(before, compute)
    tests = load_data(config.data.train, "test", config.data)
    kept = artifact.load(before.folder / "student.safetensors", "student")[0]
    photos = Data(decoded=str(runs / "decoded"), size=8, channels=1, augmentation=config.data.augmentation)
    source = DataSet(source="folder", root=str(runs / "photos"))
    for c in "ab":
        (runs / "photos/train" / c).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(tests.images[2 * i + (c == "b"), ..., 0].numpy()).save(runs / f"photos/train/{c}/{i}.{'png' if i else 'jpg'}")
    pixels = folder.load(source, "train", photos).images.clone()
    people = [f"{i},{name}," + ",".join(["5"] * 10) for i, name in enumerate(tests.names)]
    (runs / "people.csv").write_text("\n".join([",".join(["test_index", "image", *tests.classes]), *people]))
    (runs / "own.yaml").write_text(Path("configs/digits.yaml").read_text())
    row = runs / "row-0.json"
    artifact.write_json(row, {"settings": compare.plain(config)})
    cached = next(config.folder.glob("mc_samples/digits-reference-a*"))
    samples = artifact.load(cached, "cache of samples")[0]["log_probs"]

    def same_samples() -> bool:
        cache = SampleCache(config, run, compute, trained.samplers("mc_dropout"), trained.checksum)
        return torch.equal(cache.reference(tests)[0][0].log_probs, samples.float())

    def same_student() -> bool:
        return all(torch.equal(value, kept[name]) for name, value in artifact.load(runs / "digits/student.safetensors", "student")[0].items())

    def reads(work: Callable[[], Any]) -> Callable[[], bool]:
        return lambda: work() is not None

    return {
        config.folder / "teacher.safetensors": lambda: teacher.load_teacher(config, compute).checksum == trained.checksum,
        config.folder / "student.safetensors": lambda: bool(student.load_student(config.folder)) and same_student(),
        config.folder / "checkpoints/student.safetensors": reads(
            lambda: artifact.load(config.folder / "checkpoints/student.safetensors", "checkpoint")
        ),
        cached: same_samples,
        next((runs / "decoded").iterdir()): lambda: torch.equal(folder.load(source, "train", photos).images, pixels),
        runs / "photos/train/a/0.jpg": reads(lambda: folder.load(source, "train", photos)),
        runs / "photos/train/b/1.png": reads(lambda: folder.load(source, "train", photos)),
        runs / "people.csv": reads(lambda: humans.load(runs / "people.csv", tests)),
        runs / "own.yaml": reads(lambda: cli.parse(["--config", str(runs / "own.yaml")])),
        row: reads(lambda: compare.finished(row, {}, config) or "read"),
    }


def broken(file: Path, read: Callable[[], bool], how: str, seed: int, other: Path) -> str:
    """One file, one damage; afterwards the file is as it was."""
    content = file.read_bytes()
    try:
        if how == "foreign" and file.suffix == ".safetensors" and seed % 2:
            save_file({"x": torch.zeros(3)}, file, {"kind": "teacher", "metadata": json.dumps({"a": 1})})
        else:
            file.write_bytes(damaged(content, how, np.random.default_rng(seed), other.read_bytes()))
        return outcome(read)
    finally:
        file.write_bytes(content)


# Bad settings, made from the schema.

BAD = (-1, 0, float("nan"), float("inf"), True, 1.5, 10**30, "", "wrong", "../x", "x" * 300, [], [1, 2, 3], [-0.5], {}, {"x": 1}, None)


def settings(kind: Any = Config, key: str = "") -> Iterator[str]:
    """Every setting of a dataclass, such as `teacher.lr` and `data.ood.0.name`."""
    for item in fields(kind):
        of = get_type_hints(kind)[item.name]
        name = f"{key}{item.name}"
        if get_origin(of) is list and is_dataclass(get_args(of)[0]):
            yield name
            yield from settings(get_args(of)[0], f"{name}.0.")
        elif is_dataclass(of):
            yield name
            yield from settings(of, f"{name}.")
        else:
            yield name


USES = {"teacher": ["teacher", "student"], "sampling": ["student"], "student": ["student"], "evaluation": ["evaluate"]}


def bad_setting(runs: Path, key: str, value: Any, base: Path) -> str:
    """A YAML file with one bad value: it is refused, or the stages that use it end well or with one line."""
    plain = json.loads(json.dumps(compare.plain(config_of(runs)))) | {"rows": [{"title": "x"}]}
    group, *_ = *parents, last = key.split(".")
    part = plain
    for name in parents:
        part = part[int(name) if name.isdigit() else name]
    part[last] = value
    (runs / "bad.yaml").write_text(yaml.safe_dump(plain))

    def work() -> bool:
        config, _ = cli.parse(["--config", str(runs / "bad.yaml")])
        if group in ("rows", "runs") or key == "data.decoded":
            return True  # not to write anywhere
        shutil.copytree(base / "digits", config.folder, ignore=shutil.ignore_patterns(*(f"{stage}.safetensors" for stage in USES.get(group, STAGES))))
        for stage in USES.get(group, STAGES):
            STAGES[stage](copy.deepcopy(config), False)
        return True

    return outcome(work)
