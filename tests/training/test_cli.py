"""Settings: from files and command lines, and the one line that says what is wrong with them."""

import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import yaml
from conftest import CONFIGS
from training.cli import guard, make_parser, override, parse

from configs.errors import UserError
from configs.schema import Network, Source, View
from data import SOURCES
from data.views import VIEWS
from methods import STUDENTS, options_help
from models.networks import NETWORKS
from training.compute import choose

DIGITS = "configs/digits.yaml"


def changed(tmp_path: Path, **changes) -> str:
    """digits.yaml with nested changes, as a file."""
    settings = yaml.safe_load(Path(DIGITS).read_text())
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            settings[section][name] = value
        else:
            settings[section] = value
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(settings))
    return str(path)


@pytest.mark.parametrize("path", [str(path) for path in CONFIGS if path.parent.name == "configs"])
def test_every_config_of_the_repository_is_valid(path):
    assert parse(["--config", path])[0].name == Path(path).stem


def test_the_command_line_overrides_the_file():
    config, overwrite = parse(
        ["--config", DIGITS, "--student.lr", "0.01", "--data.ood", "[{source: noise}]", "--overwrite"]
    )
    assert (config.student.lr, config.teacher.network, overwrite) == (0.01, "vgg5", True)
    assert [source.title for source in config.data.ood] == ["noise"]


def test_a_data_set_is_named_after_where_it_comes_from(tmp_path):
    path = changed(
        tmp_path,
        data__train={"source": "folder", "root": "datasets/birds/"},
        data__ood=[{"source": "noise", "name": "far"}],
    )
    config, _ = parse(["--config", path])
    assert [config.data.train.title, config.data.ood[0].title] == ["birds", "far"]


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"teacher__epoch": 3}, "unknown key teacher.epoch, did you mean teacher.epochs?"),
        ({"techer": {"epochs": 3}}, "unknown key techer.epochs, did you mean teacher.epochs?"),
        (
            {"teacher__conv_dropout": 1.2},
            "teacher.conv_dropout: 1.2 is not a number in [0, 1) or a list, each a number in [0, 1)",
        ),
        ({"teacher__width": 0}, "teacher.width: 0 is not a number above 0, below a million"),
        ({"teacher__width": float("inf")}, "teacher.width: inf is not a number above 0, below a million"),
        ({"sampling__passes": 0}, "sampling.passes: 0 is not a whole number from 2 on"),
        ({"teacher__lr": "fast"}, "teacher.lr: fast is not a number above 0, below a million"),
        ({"student__seed": 2**31}, "student.seed: 2147483648 is not a whole number in [0, 2^31)"),
        ({"data__ood": [{"source": "leters"}]}, "data.ood.source: leters is not one of digits, letters"),
        ({"data__ood": [{"name": "../../../zz"}]}, "data.ood.name: ../../../zz is not a name of letters, digits"),
        ({"data__ood": [{"name": "a/b"}]}, "data.ood.name: a/b is not a name of letters, digits"),
        (
            {"data__augmentation": {"rotation": float("inf")}},
            "data.augmentation.rotation: inf is not a number from 0 to a million",
        ),
        ({"name": "../../x"}, "name: ../../x is not a name of letters, digits"),
        ({"name": "a/../../x"}, "name: a/../../x is not a name of letters, digits"),
        ({"sampling__views": ["plane"]}, "sampling.views: plane is not a list, each one of plain, augmented, mixup"),
        ({"sampling__views": ["other"]}, "the view `other` needs a set"),
        ({"sampling__views": []}, "sampling.views: there has to be one or more"),
        ({"data__augmentation": {"crop": 8}}, "data.augmentation.crop: 8 is not less than data.size, 8"),
        ({"overwrite": True}, "overwrite is not a setting"),
        ({"data": 3}, "data: 3 is not settings by name"),
        ({"teacher": [1]}, "teacher: 1 is not settings by name"),
        ({"data__train": None}, "data.train: null is not settings by name"),
        ({"data__channels": True}, "data.channels: true is not one of 1, 2, 3"),
        ({"data__ood": [{"source": None}]}, "data.ood.source: null is not one of digits"),
    ],
)
def test_an_error_in_a_file_is_one_line_that_names_file_key_and_what_is_allowed(tmp_path, changes, said):
    path = changed(tmp_path, **changes)
    with pytest.raises(UserError) as error:
        parse(["--config", path])
    assert str(error.value).startswith(f"{path}: ") and said in str(error.value) and "\n" not in str(error.value)


def test_an_error_on_the_command_line_says_so():
    with pytest.raises(UserError, match="command line: unknown key student.lrr, did you mean student.lr"):
        parse(["--config", DIGITS, "--student.lrr", "1"])
    with pytest.raises(UserError, match="nowhere.yaml: no such config file"):
        parse(["--config", "nowhere.yaml"])


def test_a_script_ends_with_code_2_one_line_and_no_traceback(tmp_path):
    command = [sys.executable, "train_teacher.py", "--config", changed(tmp_path, teacher__width=0)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: ")


def test_help_documents_every_field(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_teacher.py", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path("train_teacher.py", run_name="__main__")
    assert "Share of the target that is spread over all classes." in " ".join(capsys.readouterr().out.split())


def test_what_the_schema_allows_is_what_is_registered():
    assert set(get_args(Source)) == set(SOURCES)
    assert set(get_args(View)) == set(VIEWS)
    assert set(get_args(Network)) == set(NETWORKS)


def test_changes_of_a_config_are_nested_settings():
    base, _ = parse(["--student.options.rank", "3"])
    changed = override(base, {"student": {"lr": "1e-3", "options": {"head": "softplus"}}}, "row x")
    assert changed.student.lr == 1e-3 and changed.student.options == {"rank": 3, "head": "softplus"}
    assert override(base, {}, "row x") == base and base.student.lr == 1e-4
    with pytest.raises(UserError, match="row x: unknown key student.lrr, did you mean student.lr?"):
        override(base, {"student": {"lrr": 1}}, "row x")


def test_the_help_of_a_script_shows_what_it_uses():
    shown = make_parser("", ("data", "teacher")).format_help()
    assert "--teacher.lr" in shown and "--data.size" in shown and "--seed" in shown
    assert (
        "--student.lr" not in shown and "--rows" not in shown and "usage: " in shown and len(shown.splitlines()) < 250
    )


def test_devices_that_are_not_supported_say_so():
    with pytest.raises(UserError, match="mps is not supported"):
        choose("mps", "auto")


def test_settings_that_a_method_would_ignore_are_refused():
    config, _ = parse(["--student.method", "end", "--student.options", "{hidden: 64}"])
    with pytest.raises(UserError, match="unknown key hidden"):
        STUDENTS["end"].check(config)
    config.student.method = "dirichlet"
    STUDENTS["dirichlet"].check(config)
    assert "heads" in options_help() and "mean_weight 12.0" in options_help()


@pytest.mark.parametrize(
    "work, said",
    [
        (lambda: open("/nowhere/x", "w"), "error: /nowhere/x: No such file or directory"),
        (lambda: open("/" + "x" * 300), "File name too long"),
        (lambda: torch.empty(10**15), "error: not enough memory: lower width, or batch_size"),
        (lambda: np.empty(10**15), "error: not enough memory"),
        (lambda: (_ for _ in ()).throw(UserError("a\udcff")), "error: a"),
    ],
)
def test_what_comes_from_outside_is_one_line_and_code_2(capsys, work, said):
    with pytest.raises(SystemExit) as end:
        guard(work)
    text = capsys.readouterr().err
    assert end.value.code == 2 and said in text and text.count("\n") == 1


def test_what_is_our_own_fault_is_a_traceback():
    with pytest.raises(RuntimeError, match="a bug"):
        guard(lambda: (_ for _ in ()).throw(RuntimeError("a bug")))


def test_ctrl_c_while_modules_are_imported_is_one_line():
    def heed():  # the tests may run in a background job, whose children ignore Ctrl-C
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "train_teacher.py", "--help"], **pipes, preexec_fn=heed)
    while (
        process.poll() is None and "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()
    ):  # torch is being imported
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert "Traceback" not in said and process.returncode in (-signal.SIGINT, 130) and "interrupted" in said
