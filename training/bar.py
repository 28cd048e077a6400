"""Lines above progress bars, and the bars: in a terminal as they are, elsewhere (a file, a CI's log) as a line every half minute."""

import sys
from typing import Any, TextIO

from tqdm import tqdm

from training import process_group

EVERY_S = 30.0


class Lines:
    """A stream on which each state of a bar is a line of its own."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> None:
        """What a bar writes over itself in a terminal."""
        if text := text.strip("\r\n \x1b[A"):
            self.stream.write(text + "\n")

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()


def note(message: str) -> None:
    """Print a line above any progress bar: of several processes, the first one alone."""
    if process_group.is_first():
        tqdm.write(message)


def progress_bar(*arguments: Any, **options: Any) -> tqdm:
    """A tqdm of the first process alone."""
    if not sys.stderr.isatty():
        options |= {"file": Lines(sys.stderr), "mininterval": EVERY_S, "maxinterval": EVERY_S, "miniters": 1}
    return tqdm(*arguments, disable=not process_group.is_first(), **options)
