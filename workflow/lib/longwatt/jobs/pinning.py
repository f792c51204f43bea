"""Give a job on the CPU cores of its own, where no other stalls it.

A core is leased as a GPU is (`longwatt.gpus.leases`), so the kernel frees it however its job ends.
Only the job's workers are bound to their cores. Its recorder and Snakemake stay outside.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from longwatt.gpus import leases
from longwatt.gpus.listing import GpuError
from longwatt.processes import quota_cores

CHANGES_NO_RESULT = "It says which cores a job runs on, which its result records."

CORES_VARIABLE = "LONGWATT_CORES"  # environment of workers: the cores leased to them, such as 0,1
PIN_VARIABLE = "LONGWATT_PIN"  # environment: a word that leaves jobs unbound; empty binds them
BY_CLUSTER = "cluster"
NOT_PINNED = "no"
# Variables by which a user binds threads, of any OpenMP, with the words that bind none.
BOUND_BY = {
    "OMP_PROC_BIND": {"false"},
    "OMP_PLACES": set[str](),
    "GOMP_CPU_AFFINITY": set[str](),
    "KMP_AFFINITY": {"none", "disabled"},
}
TOPOLOGY = Path("/sys/devices/system/cpu")
CORE_TIMES = Path("/proc/stat")
LOOK_S = 0.1  # how long cores are watched before one is chosen
BUSY_SHARE = 0.5  # from here on a core belongs to somebody who leases none
IDLE_FIELDS = slice(3, 5)  # of a core's line in /proc/stat: idle and waiting for a disk


@contextlib.contextmanager
def own_cores(threads: int, label: str, say: Callable[[str], None]) -> Iterator[tuple[int, ...]]:
    """Lease as many cores as a job has threads, as long as the block runs.

    Args:
        threads: of the job; none needs no core.
        label: shown to others.
        say: takes a line that says why the job is not pinned.

    Returns:
        The cores, none where the job is not pinned.
    """
    lease = _leased(threads, label, say) if threads else None
    with lease or contextlib.nullcontext():
        yield tuple(sorted(map(_number, lease.uuids))) if lease else ()


def _leased(threads: int, label: str, say: Callable[[str], None]) -> leases.Lease | None:
    cores, why = os.sched_getaffinity(0), _left_to_others(os.environ)
    quota, word = quota_cores(), os.environ.get(PIN_VARIABLE, "")
    if not why and word:
        say(f"{PIN_VARIABLE} is {word}, which says nothing: {NOT_PINNED} would leave jobs unbound")
    if not why and quota is not None and quota < len(cores):
        # Containers do not see each other's leases, and would all take the first cores.
        why = f"a quota gives {quota:g} of {len(cores)} cores in time, no cores of its own"
    if not why:
        try:
            if lease := leases.take_free(map(_name, preferred(cores)), threads, label):
                return lease
            why = f"fewer than {threads} of {len(cores)} cores are free"
        except GpuError as error:
            why = str(error)
    say(f"not pinned to cores: {why}")
    return None


def bind(cores: Iterable[int]) -> None:
    """Keep this process and its children on some cores, if there are any."""
    # The cores may have been taken away meanwhile. The result records what holds.
    with contextlib.suppress(OSError):
        if chosen := set(cores):
            os.sched_setaffinity(0, chosen)


def core_environment(cores: Iterable[int]) -> dict[str, str]:
    """Return the variable that tells workers the cores that were leased to them."""
    return {CORES_VARIABLE: ",".join(map(str, cores))}


def bound_cores(given: Mapping[str, str]) -> str:
    """Name the leased cores that this process is bound to, or say `no`."""
    leased = given.get(CORES_VARIABLE, "")
    bound = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    return bound if leased == bound else NOT_PINNED


def preferred(cores: Iterable[int]) -> list[int]:
    """Order cores: idle ones first, and one of each physical core before its siblings."""
    rank, busy = _sibling_ranks(cores), _busy_cores()
    return sorted(rank, key=lambda core: (core in busy, rank[core], core))


def _sibling_ranks(cores: Iterable[int]) -> dict[int, int]:
    """Return each core's place among those of the same physical core, 0 for the first."""
    seen: dict[str, int] = {}
    ranks = {}
    for core in sorted(cores):
        try:
            path = TOPOLOGY / f"cpu{core}" / "topology" / "thread_siblings_list"
            physical = path.read_text(encoding="ascii").strip()
        except OSError:  # not told here
            physical = str(core)
        ranks[core] = seen.get(physical, 0)
        seen[physical] = ranks[core] + 1
    return ranks


def _busy_cores() -> set[int]:
    """Find the cores that something runs on now, leased or not."""
    before = _core_times()
    time.sleep(LOOK_S)
    grown = {
        core: (all_ - before[core][0], idle - before[core][1])
        for core, (all_, idle) in _core_times().items()
        if core in before
    }
    return {core for core, (all_, idle) in grown.items() if all_ - idle > BUSY_SHARE * all_}


def _core_times() -> dict[int, tuple[int, int]]:
    """Return the ticks of each core since boot, all and idle ones."""
    try:
        lines = CORE_TIMES.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    rows = [line.split() for line in lines if line.startswith("cpu") and line[3:4].isdigit()]
    ticks = {int(row[0][3:]): [int(tick) for tick in row[1:9]] for row in rows}
    return {core: (sum(each), sum(each[IDLE_FIELDS])) for core, each in ticks.items()}


def _left_to_others(given: Mapping[str, str]) -> str:
    """Say who else binds jobs to cores, or nothing."""
    # KMP_AFFINITY may hold several words, such as `verbose,none`.
    words = {
        name: set(re.findall(r"[^,\s]+", given.get(name, "").lower()))
        for name in (PIN_VARIABLE, *BOUND_BY)
    }
    named = [PIN_VARIABLE] if words[PIN_VARIABLE] & {NOT_PINNED, BY_CLUSTER} else []
    named += [name for name, none in BOUND_BY.items() if words[name] and not words[name] & none]
    return f"{named[0]} is {given[named[0]]}" if named else ""


def _name(core: int) -> str:
    return f"core-{core}"


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])
