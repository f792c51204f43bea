"""How far each cell of a study is: finished, failed, interrupted, running or not started."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from longwatt.summary import artefacts

STATES = ("finished", "failed", "running", "interrupted", "not started")


def cell_states(results: Path, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per cell: cell, state, and for a failed one what it said and where its log is."""
    by_cell: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_cell.setdefault(row["cell"], []).append(row)
    table = [_state(results, cell, points) for cell, points in by_cell.items()]
    return pd.DataFrame(table, columns=["cell", "state", "message", "log"])


def _state(results: Path, cell: str, points: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    work = results / cell / "work"
    failures = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(work.glob("failure-*.json"))]
    if _held(work / "lock"):
        return {"cell": cell, "state": "running", "message": "", "log": ""}
    if failures:
        first = failures[0]
        return {"cell": cell, "state": "failed", "message": first["message"], "log": first["log"]}
    if all(path.exists() for row in points for path in artefacts(results, row).values()):
        return {"cell": cell, "state": "finished", "message": "", "log": ""}
    started = (work / "attempts.jsonl").exists()
    return {
        "cell": cell,
        "state": "interrupted" if started else "not started",
        "message": "",
        "log": "",
    }


def _held(lock: Path) -> bool:
    """Whether a live job holds a cell's lock; the kernel frees it when the job dies."""
    if not lock.exists():
        return False
    with lock.open(encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
