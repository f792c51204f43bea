"""Processes of this machine: start, children, CPU time, the quota of that, and locks.

The kernel is asked directly (proc(5)). psutil lists a process's children by reading the state of
every process of the node: on one with 1,100 processes that takes 22 ms of CPU a sample instead of
0.8 ms, which the recorder of energy takes every second. It also dates a start by the wall clock,
which may be set between two readings, so that a living process would seem to be another one.
"""

from __future__ import annotations

import fcntl
import os
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from longwatt.files import PACKAGE

CHANGES_NO_RESULT = "It starts and ends processes, whatever they do."

RUN_VARIABLE = "LONGWATT_RUN"  # environment: the Snakemake that started a job, as `identified`
PYTHON_PATH = "PYTHONPATH"
ENDED_STATES = "ZX"  # of a process whose parent has not asked for its status yet
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CGROUPS = Path("/sys/fs/cgroup")  # of a container: its own
# Files that hold a quota of CPU time and its period, both in microseconds: of cgroup v2, then v1.
QUOTAS = (
    ("cpu.max",),
    ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"),
    ("cpu,cpuacct/cpu.cfs_quota_us", "cpu,cpuacct/cpu.cfs_period_us"),
)


def finding_package(environment: Mapping[str, str]) -> dict[str, str]:
    """Add to an environment where a Python that is started with it finds this package.

    Snakemake takes PYTHONPATH away from jobs of a conda environment, which holds no longwatt.
    """
    # As this process found it, links and all: other packages may lie beside its real folder.
    here = str(PACKAGE.parent.absolute())
    others = environment.get(PYTHON_PATH, "").split(os.pathsep)
    paths = [here, *(path for path in others if path not in ("", here))]
    return {**environment, PYTHON_PATH: os.pathsep.join(paths)}


def cpu_seconds(root: int) -> float | None:
    """Return the CPU seconds of a process and its descendants without the calling process.

    Returns:
        Seconds of all that live and of those that they waited for; None once `root` is gone.
    """
    if not _stat(root):
        return None
    waiting, ticks = [root], 0
    while waiting:
        pid = waiting.pop()
        ticks += sum(map(int, _stat(pid)[11:15]))  # utime, stime, those of children waited for
        waiting += [child for child in children(pid) if child != os.getpid()]
    return ticks / TICKS_PER_S


def started(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot, or None."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def still_runs(pid: int, since: int | None) -> bool:
    """Check whether the process that `started` at a time runs, and is no zombie."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in ENDED_STATES and int(fields[19]) == since


def identified(pid: int) -> str:
    """Name a process so that no later one has its name: host, number and start."""
    return f"{os.uname().nodename}:{pid}:{started(pid)}"


def is_alive(name: str) -> bool:
    """Check whether a process that `identified` named runs here."""
    host, pid, since = name.rsplit(":", 2)
    return host == os.uname().nodename and str(started(int(pid))) == since


def children(pid: int) -> list[int]:
    """Return the living children of a process, none once it is gone."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, path.read_text(encoding="ascii").split())
        except OSError:  # that thread has ended
            continue
    return found


def quota_cores() -> float | None:
    """Return the cores that a container's quota is worth, or None without one."""
    for names in QUOTAS:
        try:
            words = " ".join((CGROUPS / name).read_text(encoding="ascii") for name in names)
            quota, period = map(int, words.split())
        except (OSError, ValueError):  # the other version, or `max`, which is no limit
            continue
        if quota > 0:  # -1 is no limit
            return quota / period
    return None


def _stat(pid: int) -> list[str]:
    """Read /proc/PID/stat from its third field, nothing once the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()  # the second field, a name, may hold anything


def lift_memory_limit() -> None:
    """Let this process have all memory it may. Even to report a lack takes some."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def try_lock(file: int | IO[Any], kind: int = fcntl.LOCK_EX) -> bool:
    """Take a `flock` without waiting. The kernel frees it when its last holder dies.

    Args:
        file: an open file or its descriptor; the lock lasts as long as it is open.
        kind: fcntl.LOCK_EX, or fcntl.LOCK_SH to look without excluding others who look.

    Returns:
        False while another process holds a lock that excludes it.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
