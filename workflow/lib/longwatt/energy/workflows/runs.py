"""Energy of a workflow's runs, jobs and rules, from their ledgers and recorders' logs.

A run's energy is measured where its GPUs or the processors' counters were its alone. Else, without
GPUs, it is an estimate: its CPU time times the watts of one busy core. CPU time tells jobs of one
machine apart, which counters of the whole node do not. Whatever remains is unknown.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longwatt.energy.flags import of_energy
from longwatt.energy.log import LogError, log_parts
from longwatt.energy.rated import WATTS_KEY, rate, watts_setting
from longwatt.energy.reduction.reduce import ESTIMATE, J_PER_KWH, NO_SOURCE, reduce_log
from longwatt.energy.reduction.segments import read_log
from longwatt.energy.workflows.job import JOBS, LEDGER, SUFFIX, recording_of
from longwatt.files import json_lines
from longwatt.processes import is_alive

KEPT_RUN, REDONE_RUN, FAILED_RUN, DIED_RUN, RUNNING_RUN = (
    "kept",
    "redone",
    "failed",
    "killed",
    "running",
)
RUN_STATES = (KEPT_RUN, REDONE_RUN, FAILED_RUN, DIED_RUN, RUNNING_RUN)
LOST_STATES = (FAILED_RUN, DIED_RUN)  # their work is in no result
SHARED_GPU = "shared"  # a flag: another job ran on the same GPU meanwhile
PARTIAL_RUN = "partial"  # a flag: up to when its recorder could write
PROCESSORS, GPUS = "processors", "GPUs"  # as a run's devices; the latter could not be found
SHARED_PROCESS = "its CPU time is unknown: it ran in one process with another job"
UNSEEN_CPU_TIME = "its recorder saw no CPU time of it, which is counted in steps of 10 ms"


@dataclass(frozen=True)
class JobRun:
    """One run of a job.

    Attributes:
        number: from 1, over retries and resumed workflows.
        state: KEPT_RUN (its output is the present one), REDONE_RUN (a later run made it again),
            FAILED_RUN, DIED_RUN (nobody was left to write its end), or RUNNING_RUN.
        seconds: None where its end is unknown.
        cpu_s: CPU seconds, of a killed run as far as its recorder saw them; None where they are no
            job's alone.
        energy_j: None is unknown.
        source: as in summaries of logs: nvml_counter, nvml_power_integral, rapl, estimate, none.
        basis: what the estimate rests on, or why the energy is unknown.
        devices: what the energy is of: PROCESSORS, or UUIDs of GPUs.
        begun_ns, ended_ns: on the machine's monotonic clock; the end of a killed run is that of
            its recorder's log, and None is unknown.
    """

    rule: str
    wildcards: Mapping[str, str]
    output: Sequence[str]
    number: int
    state: str
    host: str
    boot_id: str | None
    wall_time_s: float
    begun_ns: int
    ended_ns: float | None
    seconds: float | None
    cpu_s: float | None
    energy_j: float | None
    source: str
    basis: str
    devices: Sequence[str]
    flags: Sequence[str] = ()

    @property
    def energy_kwh(self) -> float | None:
        """Its energy in kWh, or None."""
        return None if self.energy_j is None else self.energy_j / J_PER_KWH


def read_runs(folder: Path, watts_per_core: float | str | None = None) -> list[JobRun]:
    """Return all runs that a workflow's meter has seen, by the time of their beginning.

    Args:
        folder: of the meter.
        watts_per_core: `auto`, `none` or a number, for estimates; None is each run's own setting.

    Raises:
        LogError: there is no ledger.
    """
    there = sorted((folder / JOBS).glob(f"*/*{SUFFIX}"))
    ledgers = [path for path in there if LEDGER.search(path.name)]
    found = [run for ledger in ledgers for run in _runs(ledger, watts_per_core)]
    if not found:
        raise LogError(
            f"{folder / JOBS} holds no job of a metered workflow; write `from longwatt.energy "
            "import meter; meter(workflow)` at the end of its Snakefile and run it"
        )
    return sorted(_without_shared_gpus(found), key=lambda run: (run.wall_time_s, run.rule))


def _runs(ledger: Path, watts_per_core: float | str | None) -> list[JobRun]:
    lines = json_lines(ledger.read_text(encoding="utf-8", errors="replace"))
    starts = [line for line in lines if isinstance(line, dict) and "started" in line]
    ends = {line["ended"]: line for line in lines if isinstance(line, dict) and "ended" in line}
    found = []
    for start in starts:
        end = ends.get(start["started"], {})
        state = _state(start, end, last=start is starts[-1])
        found.append(_run(ledger, start, end, state, watts_per_core))
    return found


def _state(start: Mapping[str, Any], end: Mapping[str, Any], last: bool) -> str:
    if not end:
        return RUNNING_RUN if last and is_alive(start["snakemake"]) else DIED_RUN
    if end["status"] != 0:
        return FAILED_RUN
    return KEPT_RUN if last else REDONE_RUN


def _run(
    ledger: Path,
    start: Mapping[str, Any],
    end: Mapping[str, Any],
    state: str,
    watts: float | str | None,
) -> JobRun:
    seconds: float | None = end.get("s")
    recorded = _recorded(recording_of(ledger, start["started"]))
    seen_s = (recorded.get("last_cpu_s") or 0.0) - start["cpu_before_s"]
    run = JobRun(
        rule=start["rule"],
        wildcards=start["wildcards"],
        output=start["output"],
        number=start["started"],
        state=state,
        host=start["host"],
        boot_id=start["boot_id"],
        wall_time_s=start["wall_time_s"],
        begun_ns=start["t"],
        ended_ns=start["t"] + end["s"] * 1e9 if end else recorded.get("last_ns"),
        seconds=seconds,
        cpu_s=end["cpu_s"] if end else (seen_s if seen_s > 0 else None),
        energy_j=None,
        source=NO_SOURCE,
        basis="",
        devices=start["gpus"] or ([GPUS] if start["gpu_problem"] else [PROCESSORS]),
        flags=() if end else (PARTIAL_RUN,),
    )
    if recorded.get("measured"):
        flags = [*of_energy(recorded, seconds), *run.flags]
        return replace(run, **_energy(recorded["energy_j"], recorded["energy_source"], "", flags))
    if start["gpus"] or start["gpu_problem"]:
        return replace(run, basis=start["gpu_problem"] or _why(recorded))
    if run.cpu_s is None:
        return replace(run, basis=SHARED_PROCESS if end else UNSEEN_CPU_TIME)
    wanted = start["watts_per_core"] if watts is None else watts
    rating = rate(watts_setting({WATTS_KEY: wanted}), start["processor"])
    if rating.watts is None:
        return replace(run, basis=rating.basis)
    return replace(run, **_energy(run.cpu_s * rating.watts, ESTIMATE, rating.basis, run.flags))


def _energy(joules: float | None, source: str, basis: str, flags: Sequence[str]) -> dict[str, Any]:
    return {"energy_j": joules, "source": source, "basis": basis, "flags": tuple(flags)}


def _recorded(log: Path) -> dict[str, Any]:
    """Return the facts of a run's recorder, none where it had none."""
    if not log_parts(log):
        return {}
    try:
        found = read_log([log])
    except LogError as error:
        return {"problems": [str(error)]}
    read = [value for segment in found.segments for value in segment.of("cpu_s").values]
    return {
        **reduce_log(found, None),
        "last_cpu_s": float(read[-1]) if read else None,
        "last_ns": max(one.header["t"] + one.length_s * 1e9 for one in found.segments),
    }


def _why(recorded: Mapping[str, Any]) -> str:
    said = "; ".join(recorded.get("problems", ()))
    return said or "its GPUs were not read: it was over before its recorder began"


def _without_shared_gpus(runs: Sequence[JobRun]) -> list[JobRun]:
    """Take the energy from runs that shared a GPU at the same time."""
    by_gpu: dict[tuple[str | None, str], list[JobRun]] = defaultdict(list)
    for run in runs:
        for device in run.devices:
            if device not in (PROCESSORS, GPUS):
                by_gpu[run.boot_id, device].append(run)
    shared = {one for users in by_gpu.values() for one in _overlapping(users)}
    why = "another job ran on the same GPU meanwhile, and a meter cannot tell them apart"
    return [
        replace(run, **_energy(None, NO_SOURCE, why, (SHARED_GPU,))) if id(run) in shared else run
        for run in runs
    ]


def _overlapping(users: Sequence[JobRun]) -> Iterator[int]:
    """Name the runs that were on at the same time as another, by their identities."""
    reach: JobRun | None = None
    for run in sorted(users, key=lambda one: one.begun_ns):
        if reach is not None and run.begun_ns < _end_ns(reach):
            yield from (id(run), id(reach))
        if reach is None or _end_ns(run) > _end_ns(reach):
            reach = run


def _end_ns(run: JobRun) -> float:
    """Return a run's end, endless where it is unknown."""
    return math.inf if run.ended_ns is None else run.ended_ns


@dataclass(frozen=True)
class EnergySum:
    """Runs added up.

    Attributes:
        runs, known: number of runs, and of those whose energy is known.
        seconds, cpu_s, energy_j: of all; None if that of one is unknown.
        known_s, known_cpu_s, known_j: of the runs for which it is known; None if it is for none.
        sources: number of runs by source.
    """

    runs: int
    known: int
    seconds: float | None
    cpu_s: float | None
    energy_j: float | None
    known_s: float | None
    known_cpu_s: float | None
    known_j: float | None
    sources: Mapping[str, int]


def summed(runs: Iterable[JobRun]) -> EnergySum:
    """Add runs up. A sum is unknown once it is of one."""
    every = list(runs)
    seconds, known_s = _sums([run.seconds for run in every])
    cpu_s, known_cpu_s = _sums([run.cpu_s for run in every])
    energy_j, known_j = _sums([run.energy_j for run in every])
    return EnergySum(
        runs=len(every),
        known=sum(run.energy_j is not None for run in every),
        seconds=seconds,
        cpu_s=cpu_s,
        energy_j=energy_j,
        known_s=known_s,
        known_cpu_s=known_cpu_s,
        known_j=known_j,
        sources=Counter(run.source for run in every),
    )


def _sums(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Return the sum of all, None if one is unknown, and of those known."""
    known = [value for value in values if value is not None]
    total = sum(known) if known else None
    return (total if len(known) == len(values) else None), total


def by_rule(runs: Iterable[JobRun]) -> dict[str, list[JobRun]]:
    """Return runs by rule, in the order of their first runs."""
    found: dict[str, list[JobRun]] = {}
    for run in runs:
        found.setdefault(run.rule, []).append(run)
    return found


def number_of_jobs(runs: Iterable[JobRun]) -> int:
    """Return the number of jobs that runs belong to."""
    return len({(run.rule, tuple(run.output), tuple(run.wildcards.items())) for run in runs})
