"""How every script starts, before the imports that take seconds. Needs the standard library alone."""

import os
import signal
import sys
from collections.abc import Collection
from importlib.util import find_spec
from types import TracebackType

PARENT = os.getppid()  # of a process that torchrun started, asked for before the slow imports
HOW = "source .venv/bin/activate (./run.sh makes it), or pip install -r requirements.txt"


def before_imports(description: str = "", shown: Collection[str] | None = None, *kind: type) -> None:
    """What a script does first: from here on Ctrl-C and a missing package are one line, and `| head` ends the script
    without any. `--help` is answered at once.

    shown: the groups of settings that the help lists beside the general ones; the others are accepted as well. None:
    the script answers `--help` itself. kind: the dataclass of the settings; without it, `Config`.
    """
    sys.excepthook = _in_one_line
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python's own handling is a traceback for each writer
    if shown is not None and {"--help", "-h"} & set(sys.argv):
        from configs.cli import show_help

        show_help(description, shown, *kind)


def _in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The last word about an error that nothing caught. A missing package is one that cannot be found at all."""
    if kind is KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
    elif kind is ModuleNotFoundError and error.name and find_spec(error.name.partition(".")[0]) is None:
        print(f"error: the package {error.name} is missing: {HOW}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
