"""Energy logs of real attempts with the readings of stand-in GPUs that draw a constant power."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from longwatt.energy.log import append
from tests.nvml import uuid

WATTS = 50.0


def has_gpus(log: str | None, gpus: int) -> None:
    """Let a log's header say that so many GPUs were metered; before its job starts."""
    path = Path(str(log))
    (header,) = _lines(path)
    header["gpus"] = [
        {"uuid": uuid(number), "refused": None, "name": "Fake"} for number in range(gpus)
    ]
    path.write_text(json.dumps(header) + "\n")


def meter(log: str | None, until_ns: int | None = None) -> None:
    """Add what a recorder would have read, from a log's header to a moment (now)."""
    path = Path(str(log))
    header, *_ = _lines(path)
    gpus, moment = len(header["gpus"]), header["t"]
    until = time.monotonic_ns() if until_ns is None else until_ns
    lines = []
    while moment < until:
        lines.append(reading(moment, gpus, counter=len(lines) % 10 == 0))
        moment += 100_000_000
    append(path, *lines, reading(until, gpus))


def reading(moment: int, gpus: int, counter: bool = True) -> dict[str, Any]:
    """One sample's line."""
    line: dict[str, Any] = {"t": moment, "instant_mw": [int(1000 * WATTS)] * gpus}
    if counter:
        line |= {"counter_ns": [moment] * gpus, "counter_mj": [round(moment * WATTS / 1e6)] * gpus}
    return line


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]
