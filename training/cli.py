"""From a YAML file and a command line to a `Config`, with errors that a person can read."""

import difflib
import json
import re
import sys
from argparse import SUPPRESS, RawDescriptionHelpFormatter
from collections.abc import Callable, Collection
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, DefaultHelpFormatter, Namespace, set_parsing_settings

from configs.schema import Config
from training import process_group
from training.errors import UserError

DEFAULT = str(Path(__file__).parents[1] / "configs/digits.yaml")

GROUPS = [field.name for field in fields(Config) if is_dataclass(field.type)] + ["rows", "compared_on"]

set_parsing_settings(docstring_parse_attribute_docstrings=True)


class Formatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Help with the lines of a script's docstring as they are."""


def make_parser(description: str = "", shown: Collection[str] = ()) -> ArgumentParser:
    """The parser of all scripts: every field of `Config` is an option, and `--config` reads a YAML file.

    shown: the groups of settings that the help lists beside the general ones; the others are accepted as well.
    """
    usage = "%(prog)s [--config FILE] [--overwrite] [--<setting> VALUE ...]"
    parser = ArgumentParser(description=description, usage=usage, formatter_class=Formatter, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action=ActionConfigFile, help=f"YAML file of settings, by default {DEFAULT}; later options override it")
    parser.add_argument("--overwrite", action="store_true", help="start this stage anew instead of continuing or skipping it")
    parser.add_class_arguments(Config)
    for action in parser._actions:
        group, *inner = action.dest.split(".")
        if group in GROUPS and (group not in shown or not inner):
            action.help = SUPPRESS
    return parser


def parse(arguments: list[str], description: str = "", shown: Collection[str] = ()) -> tuple[Config, bool]:
    """Read settings from `arguments`, such as `["--config", "configs/digits.yaml", "--student.lr", "1e-3"]`.

    Returns the config and whether `--overwrite` was given.
    Raises UserError, in one line, for an unknown key, a wrong type or an impossible value, naming where it stands.
    """
    parser = make_parser(description, shown)
    if not any(argument.split("=")[0] == "--config" for argument in arguments):
        arguments = ["--config", DEFAULT, *arguments]
    for flag, path in zip(arguments, arguments[1:]):
        if flag == "--config":  # alone first, so that an error names the file it is in
            _parse(parser, ["--config", path], where=path)
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


def merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested mappings, the second over the first."""
    both = settings | changes
    return both | {key: merged(settings[key], v) for key, v in changes.items() if isinstance(v, dict) and isinstance(settings.get(key), dict)}


def _parse(parser: ArgumentParser, arguments: list[str], where: str):
    if where != "command line" and not Path(where).is_file():
        raise UserError(f"{where}: no such config file")
    return _checked(parser, lambda: parser.parse_args(arguments), where)


def _checked(parser: ArgumentParser, parse: Callable[[], Namespace], where: str) -> Namespace:
    """What `parse` has read, as dataclasses. Raises UserError for what cannot be read."""
    try:
        return parser.instantiate(parse())
    except (ArgumentError, ValueError, TypeError) as error:
        raise UserError(f"{where}: {_one_line(str(error), parser)}") from None


def _one_line(message: str, parser: ArgumentParser) -> str:
    """jsonargparse explains over several lines, in terms of types; an unknown key gets the nearest known one."""
    message = re.sub(r"\s+", " ", message).strip()
    for pattern in UNKNOWN_KEY:
        if match := re.search(pattern, message):
            key = ".".join(match.groups())
            if key in RENAMED:
                return f"{key} is a key of an earlier version: {RENAMED[key]}"
            near = difflib.get_close_matches(key, parser.get_defaults().keys(), n=1)
            return f"unknown key {key}" + (f", did you mean {near[0]}?" if near else "; see --help for all keys")
    for pattern, shorter in SHORTER:
        message = re.sub(pattern, shorter, message)
    return message


RENAMED = {
    "benchmark": "it is now rows, whose changes are nested settings, as in configs/two_moons.yaml",
    "student.matched": "set student.options: {matched: ...}",
    "student.rank": "set student.options: {rank: ...}",
}
UNKNOWN_KEY = (
    r"Group '(\S+)' does not accept option '(\S+)'",
    r"[Uu]nrecognized arguments: --([\w.]+)",
    r"[Oo]ption '(\S+)' is not accepted",
)
RESTRICTION = r"does not conform to restriction (v\S+(?: and v\S+)*)"
SHORTER = (
    (r"Parser key |Problem with given class_path '\S+': ", ""),
    (rf"Does not validate against any of the Union .*?{RESTRICTION}.*Given value: (\S+)", r"\2 is not allowed, only \1"),
    (rf"Not of type \w+: (\S+) {RESTRICTION}", r"\1 is not allowed, only \2"),
    (r"Expected a typing.Literal\[(.*?)\]\. Got value: (\S+)", r"\2 is not allowed, only \1"),
)


def main(stage: Callable[[Config, bool], None], description: str, shown: Collection[str] = ()) -> None:
    """Run one script: parse the command line, then call `stage(config, overwrite)`. shown: as in `make_parser`."""

    def work() -> None:
        settings = parse(sys.argv[1:], description, shown)
        with process_group.started():
            stage(*settings)

    guard(work)


def settings_page() -> str:
    """Markdown: every setting, its default and what it means; docs/configs.md is made of it."""
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
        "\n".join([f"## {group or 'The run, and comparisons'}\n", "| setting | default | meaning |", "|---|---|---|", *rows])
        for group, rows in groups.items()
    ]
    return "\n\n".join(parts)


def guard(work: Callable[[], None]) -> None:
    """Call `work`, and turn what the user can mend into one line and exit code 2."""
    try:
        work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted: the same command continues from what is finished", file=sys.stderr)
        sys.exit(130)
