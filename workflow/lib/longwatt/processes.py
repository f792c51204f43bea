"""What the kernel says of processes (proc(5)): when they started, their children, their CPU time."""

from __future__ import annotations

import os
import resource
from pathlib import Path

CHANGES_NO_RESULT = "It starts and ends processes, whatever they do."

RUN = "LONGWATT_RUN"  # environment: the Snakemake that started a job, as `identified`
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
        waiting += [child for child in children(pid) if child != os.getpid()]
    return ticks / TICKS_PER_S


def own_cpu_seconds(pid: int) -> float:
    """CPU seconds of a process alone; 0 once it is gone."""
    return sum(int(field) for field in _stat(pid)[11:13]) / TICKS_PER_S


def started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is none."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def identified(pid: int) -> str:
    """Name a process so that no later one has its name: host, number and start."""
    return f"{os.uname().nodename}:{pid}:{started(pid)}"


def is_alive(name: str) -> bool:
    """Tell whether a process that `identified` named runs on this host; of another host nothing is known."""
    host, pid, since = name.rsplit(":", 2)
    return host == os.uname().nodename and str(started(int(pid))) == since


def lift_memory_limit() -> None:
    """Let this process have as much memory again as it may; to say that there was too little takes some, too."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _ticks(pid: int) -> int | None:
    fields = _stat(pid)
    return sum(int(field) for field in fields[11:15]) if fields else None  # utime, stime, those of children waited for


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on (the second, a name, may hold anything); empty without one."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def children(pid: int) -> list[int]:
    """The living children of a process; none once it is gone."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in path.read_text(encoding="ascii").split()]
        except OSError:  # that thread has ended
            continue
    return found
