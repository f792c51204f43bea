"""Runs and their energy in words, for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Sequence

from longwatt.energy.reduction.reduce import ESTIMATE, MEASURED_SOURCES
from longwatt.energy.workflows.runs import JobRun

UNKNOWN_ENERGY = "NA"
WORD_COLUMNS = ("rule", "job", "state", "source", "of", "flags")


def rows_in_words(runs: Sequence[JobRun]) -> list[dict[str, str]]:
    """Return a row of texts for each run."""
    return [
        {
            "rule": run.rule,
            "job": job_name(run),
            "run": str(run.number),
            "state": run.state,
            "s": _number(run.seconds, ".2f"),
            "CPU s": _number(run.cpu_s, ".3f"),
            "J": _number(run.energy_j, ".3g"),
            "kWh": _number(run.energy_kwh, ".3g"),
            "source": source_in_words(run.source),
            "of": ", ".join(run.devices),
            "flags": " ".join(run.flags),
        }
        for run in runs
    ]


def job_name(run: JobRun) -> str:
    """Name a job by its wildcards, or else by its output."""
    named = ", ".join(f"{name}={value}" for name, value in run.wildcards.items())
    return named or ", ".join(run.output) or "-"


def source_in_words(source: str) -> str:
    """Say whether an energy is measured (by what), estimated or unknown."""
    if source in MEASURED_SOURCES:
        return f"measured ({source})"
    return "estimated" if source == ESTIMATE else "unknown"


def _number(value: float | None, shape: str) -> str:
    return UNKNOWN_ENERGY if value is None else format(value, shape)
