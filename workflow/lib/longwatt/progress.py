"""Progress lines: into the job's log like everything else, and onto the watcher's terminal."""

from __future__ import annotations

import contextlib
import os

TERMINAL = "LONGWATT_TERMINAL"  # a path that the job opened for its workers
LABEL = "LONGWATT_LABEL"


def say(message: str) -> None:
    """Print one line to the log and, if somebody watches, to the terminal, with the job's label."""
    line = f"{os.environ.get(LABEL, 'longwatt')}: {message}\n"
    print(line, end="", flush=True)
    terminal = os.environ.get(TERMINAL)
    if terminal:
        # The terminal may be gone (a closed session); the log has the line all the same.
        with contextlib.suppress(OSError), open(terminal, "a", encoding="utf-8") as stream:  # noqa: PTH123
            stream.write(line)
