"""Progress bars, and lines printed above them. Outside a terminal (a file, a CI log) a bar prints one line every half
minute."""

import re
import sys
from typing import Any, TextIO

from tqdm import tqdm

from training import process_group

EVERY_S = 30.0


class Lines:
    """A stream that shows each state of a bar as a line of its own."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> None:
        """Write a state of the bar as a line, without the control characters of a terminal."""
        if text := re.sub(r"\x1b\[A|[\r\n]", "", text).strip():
            self.stream.write(text + "\n")


def note(message: str) -> None:
    """Print a line above any progress bar. Of several processes only the first one prints."""
    if process_group.is_first():
        tqdm.write(message)


def progress_bar(*arguments: Any, **options: Any) -> tqdm:
    """A tqdm bar, which only the first process shows."""
    if not sys.stderr.isatty():
        options |= {"file": Lines(sys.stderr), "mininterval": EVERY_S, "maxinterval": EVERY_S, "miniters": 1}
    return tqdm(*arguments, disable=not process_group.is_first(), **options)
