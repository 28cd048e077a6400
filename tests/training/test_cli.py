"""Settings: from files and command lines, and the one line that says what is wrong with them."""

import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from configs.cli import config_of_run, parse
from configs.errors import UserError
from training.script import guard

SCRIPTS = [path.name for path in sorted(Path().glob("*.py"))]
DIGITS = "configs/digits.yaml"


def changed(tmp_path: Path, changes: dict) -> str:
    """digits.yaml with changes such as {"data.size": 9}, as a file."""
    settings = yaml.safe_load(Path(DIGITS).read_text())
    for key, value in changes.items():
        section, _, name = key.partition(".")
        (settings[section] if name else settings)[name or section] = value
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(settings))
    return str(path)


def test_the_command_line_overrides_the_file():
    config, overwrite = parse(
        ["--config", DIGITS, "--student.lr", "1e-2", "--data.ood", "[{source: noise}]", "--overwrite"]
    )
    assert (config.student.lr, config.teacher.network, overwrite) == (0.01, "vgg5", True)
    assert [source.title for source in config.data.ood] == ["noise"]


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"teacher.epoch": 3}, "teacher.epoch, did you mean teacher.epochs"),
        ({"techer": {"epochs": 3}}, "techer"),
        ({"teacher.conv_dropout": 1.2}, "teacher.conv_dropout"),
        ({"sampling.passes": 0}, "sampling.passes"),
        ({"teacher.lr": "fast"}, "teacher.lr"),
        ({"student.seed": 2**31}, "student.seed"),
        ({"data.ood": [{"source": "leters"}]}, "leters"),
        ({"data.ood": [{"name": "../../../zz"}]}, "zz"),
        ({"name": "../../x"}, "name"),
        ({"sampling.views": ["other"]}, "view `other` needs a set"),
        ({"evaluation": {"masks": "function"}}, "no interval would be right"),
        ({"data.augmentation": {"crop": 8}}, "data.augmentation.crop"),
        ({"overwrite": True}, "overwrite"),
        ({"data": 3}, "data"),
    ],
)
def test_an_error_in_a_file_is_one_line_that_names_file_and_key(tmp_path, changes, named):
    path = changed(tmp_path, changes)
    with pytest.raises(UserError) as error:
        parse(["--config", path])
    assert str(error.value).startswith(f"{path}: ") and named in str(error.value) and "\n" not in str(error.value)


def test_a_key_that_a_file_has_twice_is_an_error_and_one_that_is_merged_is_not(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("teacher: &full {epochs: 3}\nrows: [{title: a, changes: {teacher: {<<: *full, epochs: 4}}}]\n")
    (row,) = parse(["--config", str(path)])[0].rows
    assert row.changes == {"teacher": {"epochs": 4}}
    path.write_text("teacher: {epochs: 3}\nteacher: {lr: 0.5}\n")
    with pytest.raises(UserError, match="twice.yaml: teacher is there twice"):
        parse(["--config", str(path)])


def test_the_config_of_a_run_is_that_of_its_folder_wherever_it_lies(tmp_path):
    config, _ = parse(["--config", DIGITS, "--name", "2024-01-02/dirichlet"])
    folder = tmp_path / "moved" / config.name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(asdict(config)))
    assert config_of_run(folder).folder == folder and parse(["--name", "2024-01-02"])[0].name == "2024-01-02"


def test_a_text_on_the_command_line_has_no_comment():
    config, _ = parse(["--data.train.source", "folder", "--data.train.root", "photos #2", "--runs", "'a #1' # b"])
    assert (config.data.train.root, config.runs) == ("photos #2", "'a #1' # b")
    with pytest.raises(UserError, match="name"):
        parse(["--name", "digits #2"])


def test_an_error_on_the_command_line_names_the_nearest_key():
    with pytest.raises(UserError, match="unknown key teacher-epochs"):
        parse(["--teacher-epochs", "3"])
    with pytest.raises(UserError, match="student.lrr, did you mean student.lr"):
        parse(["--config", DIGITS, "--student.lrr", "1"])
    with pytest.raises(UserError, match="nowhere.yaml"):
        parse(["--config", "nowhere.yaml"])


def test_help_documents_the_settings_that_a_script_uses():
    done = subprocess.run([sys.executable, "train_teacher.py", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and all(re.search(f"--{key}\\b", done.stdout) for key in ("teacher.lr", "data.size"))
    assert "--student.lr" not in done.stdout and "spread over all classes" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    "work, said",
    [
        (lambda: open("/nowhere/x", "w"), "error: /nowhere/x: No such file or directory"),
        (lambda: torch.empty(10**15), "error: not enough memory"),
        (lambda: np.empty(10**15), "error: not enough memory"),
        (lambda: (_ for _ in ()).throw(UserError("a\udcff")), "error: a"),
    ],
)
def test_what_comes_from_outside_is_one_line_and_code_2(capsys, work, said):
    with pytest.raises(SystemExit) as end:
        guard(work)
    text = capsys.readouterr().err
    assert end.value.code == 2 and said in text and text.count("\n") == 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_missing_package_is_one_line_that_says_how_to_get_it(script):
    done = subprocess.run([sys.executable, "-S", script], capture_output=True, text=True)  # -S: without any package
    assert done.returncode == 1 and done.stderr.startswith("error: the package ") and done.stderr.count("\n") == 1
    assert "source .venv/bin/activate" in done.stderr and "pip install -r requirements.txt" in done.stderr


@pytest.mark.parametrize("options", [["--help"], []])
def test_a_reader_that_stops_reading_ends_a_script_without_a_word(tmp_path, options):
    """As `| head` does."""
    command = [sys.executable, "-u", "train_teacher.py", "--runs", str(tmp_path), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == -signal.SIGPIPE


def test_ctrl_c_while_modules_are_imported_is_one_line():
    def heed():  # the tests may run in a background job, whose children ignore Ctrl-C
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "train_teacher.py", "--overwrite"], **pipes, preexec_fn=heed)
    while process.poll() is None and "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.01)  # until torch is being imported
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert "Traceback" not in said and process.returncode in (-signal.SIGINT, 130) and "interrupted" in said
