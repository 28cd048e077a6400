"""Imported first by every script, so that Ctrl-C during the other imports, which take seconds, prints one line."""

import os
import sys
from types import TracebackType

PARENT = os.getppid()  # the process id of torchrun, if torchrun started this process


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("\ninterrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _hook
