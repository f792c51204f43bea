"""From phase marks to energy: durations, joules and their source, for the work that was kept."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

J_PER_KWH = 3.6e6
# What the paper counts as training: everything between the first step and the last validation.
WORK_PHASES = ("train", "validation", "checkpoint", "generate")


@dataclass(frozen=True)
class Interval:
    """Time between two marks of one attempt, and what the meters counted in it."""

    phase: str
    attempt: int
    step: int
    end_step: int
    duration_s: float
    cpu_s: float
    gpus: int
    gpu_j: float | None
    utilization_pct: float | None
    memory_gib: float | None


def read_marks(path: Path) -> list[dict[str, Any]]:
    """Marks of a phase log in order; a torn last line (the job was killed) is left out."""
    marks = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            marks.append(json.loads(line))
        except ValueError:
            continue
    return marks


def intervals(marks: Sequence[Mapping[str, Any]]) -> list[Interval]:
    """Pair each mark with the next one of its attempt."""
    pairs = itertools.pairwise(marks)
    return [_interval(a, b) for a, b in pairs if a["attempt"] == b["attempt"]]


def kept(found: Iterable[Interval], resumed_from: Mapping[int, int]) -> list[Interval]:
    """The intervals whose work is in the final result.

    Args:
        found: all intervals.
        resumed_from: attempt -> step of the checkpoint it went on from. Whatever earlier attempts did past
            that step was lost.
    """
    result = []
    for interval in found:
        later = [step for attempt, step in resumed_from.items() if attempt > interval.attempt]
        if interval.end_step <= min(later, default=interval.end_step):
            result.append(interval)
    return result


def summarize(path: Path, watts_per_core: float | None) -> dict[str, Any]:
    """Numbers of one phase log.

    Returns a dictionary: energy_kwh and energy_j (None where unknown), energy_source (nvml_counter, estimate,
    none), measured, duration_s, mean_power_w, mean_gpu_utilization_pct, mean_gpu_memory_gib, and phases
    (the same by phase). Only work phases that made the final result count.
    """
    marks = read_marks(path)
    resumed = {m["attempt"]: m["step"] for m in reversed(marks) if m["phase"] == "load"}
    work = [i for i in kept(intervals(marks), resumed) if i.phase in WORK_PHASES]
    phases = {name: _total([i for i in work if i.phase == name], watts_per_core) for name in WORK_PHASES}
    present = {name: total for name, total in phases.items() if total["duration_s"] > 0}
    return {**_total(work, watts_per_core), "phases": present, "attempts": len(resumed)}


def _interval(start: Mapping[str, Any], end: Mapping[str, Any]) -> Interval:
    samples = end.get("gpu_samples_before", {})
    return Interval(
        phase=start["phase"],
        attempt=start["attempt"],
        step=start["step"],
        end_step=end["step"],
        duration_s=(end["monotonic_ns"] - start["monotonic_ns"]) / 1e9,
        cpu_s=end["cpu_s"] - start["cpu_s"],
        gpus=start["gpus"],
        gpu_j=_counter_difference(start["gpu_energy_mj"], end["gpu_energy_mj"]),
        utilization_pct=samples.get("utilization_pct"),
        memory_gib=samples.get("memory_gib"),
    )


def _counter_difference(start: Mapping[str, int] | None, end: Mapping[str, int] | None) -> float | None:
    """Joules over all GPUs; None without counters on both sides, or when a counter went backwards."""
    if not start or not end or start.keys() != end.keys():
        return None
    differences = [end[uuid] - start[uuid] for uuid in start]
    return sum(differences) / 1000 if min(differences) >= 0 else None


def _total(work: Sequence[Interval], watts_per_core: float | None) -> dict[str, Any]:
    duration = sum(i.duration_s for i in work)
    energy, source = _energy(work, watts_per_core)
    return {
        "duration_s": duration,
        "energy_j": energy,
        "energy_kwh": None if energy is None else energy / J_PER_KWH,
        "energy_source": source,
        "measured": source == "nvml_counter",
        "mean_power_w": energy / duration if energy is not None and duration > 0 else None,
        "mean_gpu_utilization_pct": _time_mean(work, "utilization_pct"),
        "mean_gpu_memory_gib": _time_mean(work, "memory_gib"),
    }


def _energy(work: Sequence[Interval], watts_per_core: float | None) -> tuple[float | None, str]:
    counted = [i.gpu_j for i in work]
    if work and all(joules is not None for joules in counted):
        return sum(joules for joules in counted if joules is not None), "nvml_counter"
    # Watts per core say nothing of a GPU whose counter could not be read.
    if watts_per_core is not None and work and not any(i.gpus for i in work):
        return watts_per_core * sum(i.cpu_s for i in work), "estimate"
    return None, "none"


def _time_mean(work: Sequence[Interval], column: str) -> float | None:
    known = [(getattr(i, column), i.duration_s) for i in work if getattr(i, column) is not None]
    weight = sum(duration for _, duration in known)
    return sum(value * duration for value, duration in known) / weight if weight > 0 else None
