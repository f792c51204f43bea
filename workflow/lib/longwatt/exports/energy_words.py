"""Say how an energy is known, and what a job computed on."""

from __future__ import annotations

from longwatt.energy.reduction.reduce import ESTIMATE, MEASURED_SOURCES
from longwatt.energy.reduction.windows import COUNTER, INTEGRAL, RAPL
from longwatt.exports.facts import JobFacts
from longwatt.exports.known import KnownFacts
from longwatt.study.summary_columns import BETWEEN_VALUES

METERS = {
    COUNTER: "the energy counter of each GPU (NVML)",
    INTEGRAL: "power readings of each GPU (NVML), summed over time",
    RAPL: "the energy counters of the processors (RAPL)",
}


def energy_sentence(job: JobFacts) -> str | None:
    """Say how a job's energy is known, None where it is not."""
    source = job.column("energy_source")
    if job.column("energy_kwh") is None or source not in (ESTIMATE, *MEASURED_SOURCES):
        return None
    flags = job.column("energy_flags")
    warning = f" Flags: {flags}." if flags else ""
    if source == ESTIMATE:
        basis = job.column("energy_basis")
        rests = f", from CPU time and {basis}" if basis else " from CPU time"
        return f"Energy is estimated, not measured{rests}.{warning}"
    part = "the GPUs alone" if source != RAPL else "the processors alone"
    return f"Energy is measured by {METERS[source]}, of {part}.{warning}"


def hardware(job: JobFacts) -> list[KnownFacts]:
    """List what a job computed on: `kind`, `name` and `count`.

    A processor's count is that of the threads that computed. It is left out where attempts ran on
    different numbers, and beside GPUs, whose energy is all that is metered.
    """
    gpus = int((job.settings.get("budget") or {}).get("gpus") or 0)
    device = job.made.get("device")
    if gpus:
        return [{"kind": "gpu", "name": device, "count": gpus}] if device else []
    threads, processes = job.made.get("threads"), job.made.get("processes")
    if not isinstance(threads, int) or not isinstance(processes, int):
        return []
    return [{"kind": "cpu", "name": job.made.get("processor"), "count": threads * processes}]


def hardware_words(job: JobFacts) -> str | None:
    """Write what a job computed on, None where it is not known."""
    words = []
    for one in hardware(job):
        if one["kind"] == "gpu":
            words.append(f"{one['count']} x {one['name']}")
        else:
            threads = "1 thread" if one["count"] == 1 else f"{one['count']} threads"
            words.append(f"{one['name'] or 'a processor'} ({threads})")
    return ", ".join(words) or None


def version_of(job: JobFacts, library: str) -> str | None:
    """Read a library's version, None where attempts used several or none was noted."""
    found = str((job.made.get("versions") or {}).get(library) or "")
    return found if found and BETWEEN_VALUES not in found else None
