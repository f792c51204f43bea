"""Read when jobs ran, from Snakemake's own records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from longwatt.files import read_object
from longwatt.provenance.stamps import metadata_files


@dataclass(frozen=True)
class RunTime:
    """When a job began and ended, in seconds since 1970."""

    start: float
    end: float


def recorded_times(metadata: Path) -> dict[str, RunTime]:
    """Read begin and end of every job by the paths of its outputs.

    Args:
        metadata: Snakemake's folder of records, which may be absent.
    """
    found = {}
    for path, file in metadata_files(metadata).items():
        record = read_object(file)
        start, end = record.get("starttime"), record.get("endtime")
        if isinstance(start, int | float) and isinstance(end, int | float) and start <= end:
            found[path] = RunTime(start, end)
    return found


def whole(times: Sequence[RunTime | None]) -> RunTime | None:
    """Return the time from first begin to last end, None unless all are known."""
    known = [time for time in times if time]
    if not known or len(known) < len(times):
        return None
    return RunTime(min(time.start for time in known), max(time.end for time in known))


def iso(seconds: float) -> str:
    """Write a time as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
