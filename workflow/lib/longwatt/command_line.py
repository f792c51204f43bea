"""Run a command's main function, and end as a shell expects."""

from __future__ import annotations

import argparse
import math
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from longwatt.disk_space import DISK_FULL

CHANGES_NO_RESULT = "It ends commands; what they say is made elsewhere."

READER_LEFT = 128 + signal.SIGPIPE  # as of a program that SIGPIPE ends: `... | head` is no error
INTERRUPTED = 128 + signal.SIGINT
UNWRITTEN = 74  # <sysexits.h>: EX_IOERR


def run_command(main: Callable[[], int]) -> NoReturn:
    """Run `main` and end the process with the status that it returns.

    Args:
        main: prints its answer and returns its status.
    """
    try:
        try:
            status: int | str | None = main()
        except SystemExit as ended:  # of argparse, after it printed help
            status = ended.code
        sys.stdout.flush()
    except KeyboardInterrupt:
        _end(INTERRUPTED)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _reader_left():
            _end(READER_LEFT)
        if error.errno not in DISK_FULL:
            raise
        said = f"longwatt: the output cannot be written ({error.strerror})"
        _end(UNWRITTEN, f"{said}; free some space and run again\n")
    sys.exit(status)


def _reader_left() -> bool:
    """Return whether standard output itself is a pipe that has lost its reader."""
    poll = select.poll()
    poll.register(1, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _end(status: int, message: str = "") -> NoReturn:
    """End without Python's own message on what could not be flushed."""
    if message:
        os.write(2, message.encode())
    os._exit(status)


def parse_with_command(
    parser: argparse.ArgumentParser, verb: str, arguments: Sequence[str] | None
) -> tuple[argparse.Namespace, list[str]]:
    """Parse a command line whose `verb` runs the command after `--`, and return both."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Cut here: argparse's own treatment of "--" differs between Python versions.
    cut = given.index("--") if "--" in given else len(given)
    parsed, command = parser.parse_args(given[:cut]), given[cut + 1 :]
    if parsed.verb == verb and not command:
        parser.error("no command; write it after --")
    return parsed, command


def finite(text: str) -> float:
    """Read a number of a command line that others can be compared with."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is no number to compare with")
    return value


def positive_number(text: str) -> float:
    """Read a number above 0."""
    value = finite(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def number_from_zero(text: str) -> float:
    """Read a number that is 0 or more."""
    value = finite(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value
