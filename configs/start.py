"""How every script starts, before the imports that take seconds. Needs the standard library alone."""

import os
import signal
import sys
from collections.abc import Collection
from importlib.util import find_spec
from types import TracebackType

PARENT = os.getppid()  # of a process that torchrun started, asked for before the slow imports
HOW = "source .venv/bin/activate (./run.sh makes it), or pip install -r requirements.txt"


def before_imports(description: str = "", shown: Collection[str] | None = None, kind: type | None = None) -> None:
    """What a script does first: from here on Ctrl-C and a missing package are one line, and `| head` ends the script
    without any. `--help` is answered at once.

    shown: the groups of settings that the help lists beside the general ones; the others are accepted as well. None:
    the script answers `--help` itself. kind: the dataclass of the settings; default: `Config`.
    """
    sys.excepthook = _in_one_line
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python's own handling is a traceback for each writer
    arguments = [word for word in sys.argv[1:] if word not in ("--help", "-h")]
    if shown is not None and len(arguments) < len(sys.argv) - 1:
        from configs import cli

        cli.show_help(description, arguments, shown, kind or cli.Config)


def _in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The last word about an error that nothing caught. A missing package is one that cannot be found at all."""
    package = (getattr(error, "name", None) or "sys").partition(".")[0]
    if kind is KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
    elif kind is ModuleNotFoundError and find_spec(package) is None:
        print(f"error: the package {package} is missing: {HOW}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
