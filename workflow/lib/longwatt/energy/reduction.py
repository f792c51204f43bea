"""From phase marks to energy: durations, joules and their source, for the work that was kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longwatt.energy.marks import TRAINING_PHASES, Interval, intervals, kept, read_marks, resumed_from

J_PER_KWH = 3.6e6
WORK_PHASES = (*TRAINING_PHASES, "generate")


def summarize(path: Path, watts_per_core: float | None) -> dict[str, Any]:
    """Numbers of one phase log.

    Returns a dictionary: energy_kwh and energy_j (None where unknown), energy_source (nvml_counter, estimate,
    none), measured, duration_s, mean_power_w, mean_gpu_utilization_pct, mean_gpu_memory_gib, and phases
    (the same by phase). Only work phases that made the final result count.
    """
    marks = read_marks(path)
    resumed = resumed_from(marks)
    work = [i for i in kept(intervals(marks), resumed) if i.phase in WORK_PHASES]
    phases = {name: _total([i for i in work if i.phase == name], watts_per_core) for name in WORK_PHASES}
    present = {name: total for name, total in phases.items() if total["duration_s"] > 0}
    return {**_total(work, watts_per_core), "phases": present, "attempts": len(resumed)}


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
