"""Locks that the kernel frees when their last holder dies, kill -9 included."""

from __future__ import annotations

import fcntl
from typing import IO, Any


def try_lock(file: int | IO[Any], kind: int = fcntl.LOCK_EX) -> bool:
    """Take a `flock` without waiting; False while another process holds one that excludes it.

    Args:
        file: an open file or its descriptor; the lock lasts as long as it is open.
        kind: fcntl.LOCK_EX, or fcntl.LOCK_SH to look without excluding others who look.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
