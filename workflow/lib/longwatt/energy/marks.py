"""From phase marks to the intervals between them, and to those whose work was kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longwatt.provenance import json_lines

# What the paper counts as training: everything between the first step and the last validation.
TRAINING_PHASES = ("train", "validation", "checkpoint")


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
    return json_lines(path.read_text(encoding="utf-8"))


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


def resumed_from(marks: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    """Attempt -> the step that it went on from."""
    starts: dict[int, int] = {}
    for mark in marks:
        if mark["phase"] == "load":
            starts.setdefault(mark["attempt"], mark["step"])
    return starts


def kept_seconds(path: Path) -> dict[str, float]:
    """How long each phase of TRAINING_PHASES took so far, work that was lost left out."""
    marks = read_marks(path)
    work = kept(intervals(marks), resumed_from(marks))
    return {phase: sum(i.duration_s for i in work if i.phase == phase) for phase in TRAINING_PHASES}


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
