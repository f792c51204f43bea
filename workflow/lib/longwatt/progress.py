"""Progress lines: into the job's log like everything else, and onto the watcher's terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat

TERMINAL = "LONGWATT_TERMINAL"  # a path that the job opened for its workers
LABEL = "LONGWATT_LABEL"


def say(message: str) -> None:
    """Print one line to the log and, if somebody watches, to the terminal, with the job's label."""
    line = f"{os.environ.get(LABEL, 'longwatt')}: {message}\n"
    print(line, end="", flush=True)
    terminal = os.environ.get(TERMINAL)
    if terminal:
        # The terminal may be gone (a closed session); the log has the line all the same.
        with contextlib.suppress(OSError), open(terminal, "ab", buffering=0) as stream:  # noqa: PTH123
            stream.write(line.encode())  # at once, so that other jobs' lines stay out of it


def share(descriptor: int) -> None:
    """Have all who write to a file through `descriptor` append to it.

    After `snakemake ... > log` Snakemake holds the file with an offset of its own, and would write over what workers
    have appended since. Terminals and pipes have no offset.
    """
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)
