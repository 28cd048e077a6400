"""Reads a `Config` from a YAML file and the command line, with error messages of one readable line."""

import difflib
import json
import re
import sys
from argparse import SUPPRESS, RawDescriptionHelpFormatter
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse import (
    ActionConfigFile,
    ArgumentError,
    ArgumentParser,
    DefaultHelpFormatter,
    Namespace,
    set_parsing_settings,
)
from jsonargparse.typing import OpenUnitInterval

from configs.schema import Config
from training import process_group
from training.errors import UserError

DEFAULT = str(Path(__file__).parents[1] / "configs/digits.yaml")

GROUPS = [field.name for field in fields(Config) if is_dataclass(field.type)] + ["rows", "compared_on"]

set_parsing_settings(docstring_parse_attribute_docstrings=True)


class Formatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Help that keeps the lines of a script's docstring."""


def make_parser(description: str = "", shown: Collection[str] = ()) -> ArgumentParser:
    """The parser of all scripts: every field of `Config` is an option, and `--config` reads a YAML file.

    shown: the groups of settings that the help lists beside the general ones; the others are accepted as well.
    """
    usage = "%(prog)s [--config FILE] [--overwrite] [--<setting> VALUE ...]"
    parser = ArgumentParser(
        description=description, usage=usage, formatter_class=Formatter, exit_on_error=False, allow_abbrev=False
    )
    parser.add_argument(
        "--config",
        action=ActionConfigFile,
        help=f"YAML file of settings, by default {DEFAULT}; later options override it",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="start this stage anew instead of continuing or skipping it"
    )
    parser.add_class_arguments(Config)
    for action in parser._actions:
        group, *inner = action.dest.split(".")
        if group in GROUPS and (group not in shown or not inner):
            action.help = SUPPRESS
    return parser


def parse(arguments: list[str], description: str = "", shown: Collection[str] = ()) -> tuple[Config, bool]:
    """Read settings from `arguments`, such as `["--config", "configs/digits.yaml", "--student.lr", "1e-3"]`.

    Returns the config and whether `--overwrite` was given.
    Raises UserError, in one line that names the file, for an unknown key, a wrong type or an impossible value.
    """
    parser = make_parser(description, shown)
    if not any(argument.split("=")[0] == "--config" for argument in arguments):
        arguments = ["--config", DEFAULT, *arguments]
    for flag, path in zip(arguments, arguments[1:]):
        if flag == "--config":  # parse each file alone first, so that an error names it
            if _parse(parser, ["--config", path], where=path).overwrite:
                raise UserError(f"{path}: overwrite is not a setting; give --overwrite on the command line")
    settings = _parse(parser, arguments, where="command line")
    overwrite = settings.pop("overwrite")
    settings.pop("config")
    return Config(**vars(settings)), overwrite


def override(config: Config, changes: dict[str, Any], where: str) -> Config:
    """A config with some settings changed, as nested mappings: `{"student": {"lr": 1e-3}}`.

    Raises UserError, as `parse` does; `where` says whose changes they are.
    """
    parser = make_parser()
    settings = _checked(parser, lambda: parser.parse_object(merged(asdict(config), changes)), where)
    return Config(**{field.name: settings[field.name] for field in fields(Config)})


def read(kind: type, values: dict[str, Any], where: str) -> Any:
    """The dataclass `kind` with the given values. Raises UserError, in one line, for an unknown name or an impossible
    value."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind)
    return kind(**vars(_checked(parser, lambda: parser.parse_object(values), where, kind)))


def read_settings(kind: type, description: str) -> Any:
    """The dataclass `kind` from the command line, where `--config` reads a YAML file. Raises UserError, as `read`."""
    parser = ArgumentParser(description=description, formatter_class=Formatter, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file of settings; later options override it")
    parser.add_class_arguments(kind)
    settings = vars(_checked(parser, parser.parse_args, "command line", kind))
    settings.pop("config")
    return kind(**settings)


def merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested mappings merged: values of `changes` replace those of `settings`."""
    both = settings | changes
    return both | {
        key: merged(settings[key], v)
        for key, v in changes.items()
        if isinstance(v, dict) and isinstance(settings.get(key), dict)
    }


def _parse(parser: ArgumentParser, arguments: list[str], where: str) -> Namespace:
    if where != "command line" and not Path(where).is_file():
        raise UserError(f"{where}: no such config file")
    return _checked(parser, lambda: parser.parse_args(arguments), where)


def _checked(parser: ArgumentParser, parse: Callable[[], Namespace], where: str, of: type = Config) -> Namespace:
    """The result of `parse`, as dataclasses. Raises UserError for a value that cannot be read."""
    try:
        parsed = parse()
        for key, value in _overlooked(parsed, of):
            raise UserError(f"{where}: {key}: {json.dumps(value, default=str)} is not {described(type_of(key, of))}")
        return parser.instantiate(parsed)
    except (ArgumentError, ValueError, TypeError) as error:
        raise UserError(f"{where}: {_one_line(str(error), parser, of)}") from None


def _overlooked(settings: Any, of: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Wrong settings that the parser accepts, with their values: it accepts null for every type, and true for 1."""
    for name, kind in get_type_hints(of).items():
        value = getattr(settings, name)
        inner = get_args(kind)[0] if get_origin(kind) is list else kind
        if kind is not Any and (
            value is None and type(None) not in get_args(kind) or value is True and bool not in (kind, *get_args(kind))
        ):
            yield prefix + name, value
        elif is_dataclass(inner):
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, Namespace):
                    yield from _overlooked(part, inner, f"{prefix}{name}.")
                else:
                    yield prefix + name, part


def _one_line(message: str, parser: ArgumentParser, of: type) -> str:
    """jsonargparse's message in one line and plain words; for an unknown key it suggests the nearest known one."""
    message = re.sub(r"\s+", " ", message).strip()
    for pattern in UNKNOWN_KEY:
        if match := re.search(pattern, message):
            key = ".".join(match.groups())
            known = list(parser.get_defaults().keys())
            near = difflib.get_close_matches(key, known, n=1)
            others = "see --help for all keys" if of is Config else f"there are: {', '.join(known) or 'none'}"
            return f"unknown key {key}" + (f", did you mean {near[0]}?" if near else f"; {others}")
    message = re.sub(r" Subclass types expect one of.*", "", message)
    if keys := re.findall(r'Parser key "([\w.]+)":', message):
        key = ".".join(dict.fromkeys(keys))  # the message can name a key twice
        values = re.findall(
            r"(?:Given|Got) value: (.*)$|Not of type \w+: (\S*) does not|Unable to load config '(.*?)'|: '([^']*)'$",
            message,
        )
        if kind := type_of(key, of):
            given = next(filter(None, values[-1]), "''") if values else "that"
            return f"{key}: {given} is not {described(kind)}"
    return message


def type_of(key: str, kind: Any) -> Any:
    """The type of a setting of a dataclass, such as `data.ood.name`; None if there is no such setting."""
    for name in key.split("."):
        of = get_args(kind)[0] if get_origin(kind) is list else kind
        kind = get_type_hints(of).get(name) if is_dataclass(of) else None
    return kind


def described(kind: Any) -> str:
    """The allowed values of a type, in words."""
    words = {
        bool: "true or false",
        str: "a text",
        int: "a whole number",
        float: "a number",
        OpenUnitInterval: "a number in (0, 1)",
        type(None): "null",
    }
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(described, get_args(kind)))
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) in (list, tuple):
        return f"a list, each {described(get_args(kind)[0])}"
    return words.get(kind) or ("settings by name" if is_dataclass(kind) or get_origin(kind) is dict else kind.__doc__)


UNKNOWN_KEY = (
    r"Group '(\S+)' does not accept option '(\S+)'",
    r"[Uu]nrecognized arguments: --([\w.]+)",
    r"[Oo]ption '(\S+)' is not accepted",
)


def main(stage: Callable[[Config, bool], None], description: str, shown: Collection[str] = ()) -> None:
    """Run one script: parse the command line, then call `stage(config, overwrite)`. shown: as in `make_parser`."""

    def work() -> None:
        settings = parse(sys.argv[1:], description, shown)
        with process_group.started():
            stage(*settings)

    guard(work)


def settings_page() -> str:
    """Markdown: every setting, its default and what it means; docs/configs.md is made from it."""
    names = {field.name for field in fields(Config)}
    groups: dict[str, list[str]] = {}
    for action in make_parser(shown=GROUPS)._actions:
        listed = action.dest.split(".")[0] in names and action.help not in (None, SUPPRESS) and action.option_strings
        if not listed or action.dest.endswith(".help") or "Path to a configuration file" in action.help:
            continue
        default = action.default if isinstance(action.default, str) else json.dumps(action.default, default=str)
        meaning = " ".join(action.help.split()).replace("|", "\\|")
        groups.setdefault(action.dest.rpartition(".")[0], []).append(f"| `{action.dest}` | `{default}` | {meaning} |")
    parts = [
        "\n".join(
            [f"## {group or 'The run, and comparisons'}\n", "| setting | default | meaning |", "|---|---|---|", *rows]
        )
        for group, rows in groups.items()
    ]
    return "\n\n".join(parts)


def guard(work: Callable[[], None]) -> None:
    """Call `work`. An error caused by the user, the disk or missing memory ends the process with one line and exit code
    2."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # file names can contain bytes that no encoding has
    try:
        work()
    except UserError as error:
        stop(str(error))
    except OSError as error:
        stop(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not re.search(
            "out of memory|can't allocate memory|not enough memory", str(error)
        ):
            raise
        stop(
            "not enough memory: lower width, or batch_size (of teacher, student, sampling or evaluation), or data.size"
        )
    except KeyboardInterrupt:
        stop("interrupted: the same command continues from what is finished", 130)


def stop(message: str, code: int = 2) -> None:
    """End the process with one line."""
    print(message if code == 130 else f"error: {message}", file=sys.stderr)
    sys.exit(code)
