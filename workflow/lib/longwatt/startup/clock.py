"""Handle files from the future, which a clock leaves behind when it is set back.

Snakemake compares file times. If inputs were newer than anything that can be made now, every job
made from them would fail ("older modification time than input"), and succeed only once the clock
had caught up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

CHANGES_NO_RESULT = "It reads the times of files, which decide no content."

TOLERANCE_S = 2.0  # file systems round, and nodes' clocks differ a little


def clock_was_set_back(logs: Path) -> bool:
    """Return whether an earlier run of Snakemake ended in what is now the future.

    Its folder of logs has one file for each run, so they are few, whatever the study's size.
    """
    return any(_is_future(path) for path in logs.glob("*"))


def lower_future_times(folders: Iterable[Path]) -> int:
    """Set the times of all files from the future to now, and return their number.

    Files that then have equal times are not newer than each other, so none makes another look out
    of date.
    """
    now = time.time()
    walked = (found for folder in folders for found in os.walk(folder))
    paths = (Path(parent, name) for parent, inner, files in walked for name in (*inner, *files))
    found = [path for path in paths if _is_future(path, now)]
    for path in found:
        os.utime(path, (now, now), follow_symlinks=False)
    return len(found)


def _is_future(path: Path, now: float | None = None) -> bool:
    try:
        return path.lstat().st_mtime > (time.time() if now is None else now) + TOLERANCE_S
    except FileNotFoundError:
        return False
