"""The progress of each cell of a study."""

from __future__ import annotations

import fcntl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from longwatt.files import read_object
from longwatt.freshness.outdated import Counting, Stamps
from longwatt.jobs.work_folder import read_lines
from longwatt.processes import try_lock
from longwatt.results.summary import Rows, artefacts

STATES = ("finished", "failed", "running", "interrupted", "trained", "outdated", "not started")


def _up_to_date(results: Path, row: Mapping[str, Any], stamps: Stamps, counting: Counting) -> bool:
    return all(counting.counts(path) for path in _awaited(results, row, stamps))


def up_to_date_rows(results: Path, rows: Rows, stamps: Stamps) -> list[Mapping[str, Any]]:
    """List the rows that are up to date, reading each artefact once."""
    counting = Counting(stamps, results)
    return [row for row in rows if _up_to_date(results, row, stamps, counting)]


def _awaited(results: Path, row: Mapping[str, Any], stamps: Stamps) -> list[Path]:
    """Return the artefacts that a row needs, with any report on calibration."""
    # No prediction waits for the report on calibration.
    judged = results / row["cell"] / "calibrate" / "calibration.json"
    return [*artefacts(results, row).values(), *([judged] if str(judged) in stamps else [])]


def cell_states(results: Path, rows: Rows, stamps: Stamps) -> pd.DataFrame:
    """Tabulate the state of every cell (STATES), with a failed one's error message and log."""
    by_cell: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_cell.setdefault(row["cell"], []).append(row)
    counting = Counting(stamps, results)
    table = [_state(results, cell, points, stamps, counting) for cell, points in by_cell.items()]
    return pd.DataFrame(table, columns=["cell", "state", "message", "log"])


def _state(
    results: Path, cell: str, points: Rows, stamps: Stamps, counting: Counting
) -> dict[str, str]:
    work = results / cell / "work"
    failures = [read_object(p) for p in sorted(work.glob("failure-*.json"))]
    said = {"cell": cell, "message": "", "log": ""}
    if any(_held(lock) for lock in [work / "lock", *work.glob("*/lock")]):
        return {**said, "state": "running"}
    if failures:
        why = {key: str(failures[0].get(key, "")) for key in ("message", "log")}
        return {**said, "state": "failed", **why}
    if all(_up_to_date(results, row, stamps, counting) for row in points):
        return {**said, "state": "finished"}
    return {**said, "state": _unfinished(results, cell, points, stamps)}


def _unfinished(results: Path, cell: str, points: Rows, stamps: Stamps) -> str:
    if all(path.exists() for row in points for path in _awaited(results, row, stamps)):
        return "outdated"
    attempts = read_lines(results / cell / "work" / "attempts.jsonl")
    if not attempts:
        return "not started"
    return "trained" if attempts[-1].get("status") == "completed" else "interrupted"


def _held(lock: Path) -> bool:
    """Check whether a live job holds a lock, which the kernel frees when it dies."""
    if not lock.exists():
        return False
    with lock.open(encoding="utf-8") as stream:
        return not try_lock(stream, fcntl.LOCK_SH)
