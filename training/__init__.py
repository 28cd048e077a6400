"""Imported first by every script: Ctrl-C while the others are imported, which takes seconds, prints one line."""

import os
import sys
from types import TracebackType

PARENT = os.getppid()  # of a process of torchrun: torchrun


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("\ninterrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _hook
