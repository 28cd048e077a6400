"""Settings from YAML files and the command line, and the one line that says what is wrong with them."""

import difflib
import json
import re
import sys
import textwrap
from collections.abc import Collection, Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from configs.errors import UserError
from configs.schema import Config

DEFAULT = str(Path(__file__).parent / "digits.yaml")
FORMER = {"loss": "it is now called objective", "teacher.bias_lr": "it is now called teacher.shift_lr"} | dict.fromkeys(
    (
        "teacher.compile student.compile sampling.dtype sampling.keep_samples sampling.batch_size evaluation.dtype "
        "evaluation.batch_size evaluation.speed_images evaluation.speed_passes evaluation.shifted_passes"
    ).split(),
    "which is no longer a setting: leave it out",
)
MODULE = getattr(sys.modules["__main__"], "__spec__", None)  # of `python -m experiments.uci`; has no --overwrite
COMMAND = f"python -m {MODULE.name}" if MODULE else f"{sys.argv[0]} [--overwrite]"
USAGE = f"usage: {COMMAND} [--config FILE.yaml] [--<setting> VALUE ...]"


class Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number, as YAML 1.2 does, and refuses a key that a mapping has twice."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.composer.ComposerError(None, None, f"{twice[0]} is there twice", node.start_mark)
        return node


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def show_help(description: str, shown: Collection[str], kind: type = Config) -> None:
    """Print what a script does and the settings, with their values by the other arguments, and end the process."""
    arguments = [word for word in sys.argv[1:] if word not in ("--help", "-h")]
    try:
        config, _ = parse(arguments, kind, DEFAULT if kind is Config else None)
        print(f"{USAGE}\n\n{description}\n{settings_help(config, shown)}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit()


def settings_help(config: Any, shown: Collection[str]) -> str:
    """Every general setting and those of the groups `shown`, with their values in `config` and what they mean."""
    lines = ["settings, with their values in this config:"]
    for key, field in settings_of(type(config)):
        group, value = key.split(".")[0], config
        for name in key.split("."):
            value = getattr(value, name)
        if "." not in key and group != "rows" or group in shown:
            lines.append(f"  --{key} {json.dumps(value, default=asdict) if value != str(value) else value}")
            lines += textwrap.wrap(field.description or "", 112, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return "\n".join(lines)


def settings_of(kind: type, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting of a dataclass and of the dataclasses in it: its name (`teacher.epochs`), and type, default,
    meaning."""
    for name, field in kind.__pydantic_fields__.items():
        if is_dataclass(field.annotation):
            yield from settings_of(field.annotation, f"{prefix}{name}.")
        else:
            bases = [getattr(base, "__pydantic_fields__", {}).get(name) for base in kind.__mro__]
            field.description = " ".join(
                next((base.description for base in bases if base and base.description), "").split()
            )
            yield prefix + name, field


def parse(arguments: list[str], kind: type = Config, default: str | None = DEFAULT) -> tuple[Any, bool]:
    """Read settings from `arguments`, such as `["--config", "configs/digits.yaml", "--student.lr", "1e-3"]`.

    Returns the dataclass `kind`, by default `Config`, and whether `--overwrite` was given.
    Raises UserError, in one line that names the file, for an unknown key, a wrong type or an impossible value.
    """
    files, changes, overwrite = [], {}, False
    words = iter(arguments)
    types = {key: field.rebuild_annotation() for key, field in settings_of(kind)}
    for word in words:
        key, equals, text = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            raise UserError(f"command line: {word!r} is not an option; {USAGE}")
        if word == "--overwrite":
            overwrite = True
            continue
        if not equals and (text := next(words, None)) is None:
            raise UserError(f"command line: {word} needs a value")
        if key == "config":
            files.append(text)
        else:
            change = value_of(text, types.get(key))
            for name in reversed(key.split(".")):
                change = {name: change}
            changes = merged(changes, change)
    settings = {}
    for file in files or filter(None, [default]):
        values = read_yaml(file)
        checked(kind, values, file)
        settings = merged(settings, values)
    return checked(kind, merged(settings, changes), "command line"), overwrite


def config_of_run(folder: Path) -> Config:
    """The settings of the run in a folder, wherever the folder lies now."""
    config, _ = parse(["--config", str(folder / "config.yaml")])
    folder = folder.resolve()
    runs = folder.parents[len(Path(config.name).parts) - 1]
    return override(config, {"runs": str(runs), "name": folder.relative_to(runs).as_posix()}, str(folder))


def value_of(text: str, kind: Any) -> Any:
    """A value from the command line: as YAML, or the text itself where only a text is allowed."""
    try:
        value = yaml.load(text, Loader)
        TypeAdapter(kind).validate_json(json.dumps(value, default=str))
    except yaml.YAMLError:
        return text
    except ValidationError as error:
        return text if all(part["type"] == "string_type" for part in error.errors()) else value
    return text if isinstance(value, str) and "#" in text else value  # which would begin a comment


def read_yaml(file: str) -> dict:
    """The settings in a file. Raises UserError if it is missing or no YAML mapping."""
    try:
        values = yaml.load(Path(file).read_text(encoding="utf-8"), Loader) or {}
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        missing = "no such config file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        raise UserError(f"{file}: {missing}") from None
    if not isinstance(values, dict):
        raise UserError(f"{file}: these are no settings by name")
    return values


def override(config: Config, changes: dict, where: str) -> Config:
    """A config with some settings changed, as nested mappings: `{"student": {"lr": 1e-3}}`.

    Raises UserError, as `parse` does; `where` says whose changes they are.
    """
    return checked(type(config), merged(asdict(config), changes), where)


def merged(settings: dict, changes: dict) -> dict:
    """Nested mappings merged: values of `changes` replace those of `settings`."""
    both = settings | changes
    return both | {
        key: merged(settings[key], v)
        for key, v in changes.items()
        if isinstance(v, dict) and isinstance(settings.get(key), dict)
    }


def checked(kind: type, values: dict, where: str) -> Any:
    """The dataclass `kind` with these values. Raises UserError, in one line, for an unknown name or an impossible
    value."""
    try:
        return TypeAdapter(kind).validate_json(
            json.dumps(values, default=str)  # a date, such as a run's name, is a text
        )  # JSON: python's mode refuses a mapping for a dataclass
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
    key = ".".join(name for name in first["loc"] if isinstance(name, str) and re.fullmatch(r"\w+", name))
    if first["type"] == "unexpected_keyword_argument":
        known = [key for key, _ in settings_of(kind)]
        near = difflib.get_close_matches(key, known + sorted({key.split(".")[0] for key in known}), 1)
        every = "see --help for all keys" if kind is Config else f"there are: {', '.join(known) or 'none'}"
        hint = FORMER.get(key) or (f"did you mean {near[0]}?" if near else every)
        raise UserError(f"{where}: unknown key {key or first['loc'][-1]}, {hint}")
    if first["type"] == "value_error":
        raise UserError(f"{where}: {first['ctx']['error']}")
    names = [name for name in key.split(".") if name not in ("float", "int", "str", "bool")]
    reasons = dict.fromkeys(
        error["msg"] for error in (first, *others) if error["loc"][: len(names)] == first["loc"][: len(names)]
    )
    given = json.dumps(first["input"], default=str)
    raise UserError(f"{where}: {'.'.join(names)}: {given}: {' or '.join(reasons)}")
