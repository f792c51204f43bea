"""Print progress lines to the job's log and to the watcher's terminal."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import stat
import sys
from typing import Any

from longwatt.disk_space import DISK_FULL
from longwatt.progress_record import hear_line

CHANGES_NO_RESULT = "It tells how far a job is."

TERMINAL = "LONGWATT_TERMINAL"  # a path that the job opened for its workers
LABEL_VARIABLE = "LONGWATT_LABEL"


class _Log(io.FileIO):
    """A log's descriptor. A full disk loses lines, which is said once on the terminal."""

    told = False

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            if not self.told:
                label = os.environ.get(LABEL_VARIABLE, "longwatt")
                tell_terminal(f"{label}: the log cannot be written: {error.strerror}\n")
            self.told = True
            return len(data)


def outlast_full_disk() -> None:
    """Let prints and tracebacks survive a full disk: a lost line ends no job."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        getattr(sys, name).flush()
        raw = io.BufferedWriter(_Log(descriptor, "wb", closefd=False))
        setattr(sys, name, io.TextIOWrapper(raw, "utf-8", "backslashreplace", line_buffering=True))


def say(message: str) -> None:
    """Print a line with the job's label to the log and to a watcher's terminal."""
    line = f"{os.environ.get(LABEL_VARIABLE, 'longwatt')}: {message}\n"
    print(line, end="", flush=True)
    tell_terminal(line)
    hear_line(message)


def tell_terminal(line: str) -> None:
    """Write a line to the terminal, if somebody watches."""
    terminal = os.environ.get(TERMINAL)
    if terminal:
        # The terminal may be gone (a closed session); the log has the line all the same.
        with contextlib.suppress(OSError), open(terminal, "ab", buffering=0) as stream:  # noqa: PTH123
            stream.write(line.encode())  # at once, so that other jobs' lines stay out of it


def share_terminal(descriptor: int) -> None:
    """Make all writers through `descriptor` append to its file.

    After `snakemake ... > log` Snakemake holds the file with an offset of its own, and would
    overwrite the lines that workers have appended since. Terminals and pipes have no offset.
    """
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)
