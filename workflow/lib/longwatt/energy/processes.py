"""CPU time of a process and all that it started (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_seconds(root: int) -> float | None:
    """CPU seconds of a process, its living descendants and those they waited for; this process's own left out.

    None once the process is gone.
    """
    if _ticks(root) is None:
        return None
    waiting, ticks = [root], 0
    while waiting:
        pid = waiting.pop()
        ticks += _ticks(pid) or 0
        waiting += [child for child in _children(pid) if child != os.getpid()]
    return ticks / TICKS_PER_S


def _ticks(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15])  # utime, stime and those of children waited for


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += [int(child) for child in path.read_text(encoding="ascii").split()]
        except OSError:  # that thread has ended
            continue
    return children
