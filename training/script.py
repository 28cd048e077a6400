"""How a script runs: its settings, the processes of torchrun, and one line for whatever stops it."""

import re
import sys
from collections.abc import Callable

from configs.cli import parse
from configs.errors import UserError
from configs.schema import Config
from training import process_group


def main(stage: Callable[[Config, bool], None]) -> None:
    """Run one script: parse the command line, then call `stage(config, overwrite)`."""

    def work() -> None:
        settings = parse(sys.argv[1:])
        with process_group.started():
            stage(*settings)

    guard(work, "interrupted: the same command continues from what is finished")


def guard(work: Callable[[], None], interrupted: str = "interrupted") -> None:
    """Call `work`. An error caused by the user, the disk or missing memory ends the process with one line and code 2;
    Ctrl-C with the line `interrupted`."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # file names can contain bytes that no encoding has
    try:
        work()
    except UserError as error:
        stop(str(error))
    except OSError as error:
        stop(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not re.search("out of memory|can't allocate memory", str(error)):
            raise
        stop("not enough memory: lower width, batch_size, group_size (of sampling or evaluation), or data.size")
    except KeyboardInterrupt:
        stop(interrupted, 130)


def stop(message: str, code: int = 2) -> None:
    """End the process with one line."""
    print(message if code == 130 else f"error: {message}", file=sys.stderr)
    sys.exit(code)
