"""Energy logs written by hand, for tests of what is read from them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.nvml import uuid

ZERO_NS = 10**12


def ns(second: float) -> int:
    return ZERO_NS + round(second * 1e9)


def header(
    start: float = 0.0, gpus: int | list[str] = 1, boot: str = "boot-a", **more: Any
) -> dict[str, Any]:
    uuids = [uuid(number) for number in range(gpus)] if isinstance(gpus, int) else gpus
    described = [{"uuid": name, "refused": None, "name": "Fake"} for name in uuids]
    return {
        "segment": f"at {start} {boot}", "t": ns(start), "boot_id": boot, "interval_s": 0.1,
        "gpus": described, "problem": None, "rapl": None, **more,
    }  # fmt: skip


def mark(second: float, phase: str, boot: str = "boot-a", **more: Any) -> dict[str, Any]:
    return {"mark": phase, "t": ns(second), "boot_id": boot, **more}


def end(second: float, status: int | None = 0, **more: Any) -> dict[str, Any]:
    found = {"end": "completed" if status == 0 else "failed", "status": status}
    return {**found, "t": ns(second), **more}


def samples(
    start: float,
    stop: float,
    watts: Callable[[float], float] | float,
    gpus: int = 1,
    counter: bool = True,
    power: bool = True,
    skip: Iterable[tuple[float, float]] = (),
    **slow: Any,
) -> list[dict[str, Any]]:
    """Ten samples a second of GPUs that all draw `watts`; their counter is its sum."""
    draw = watts if callable(watts) else lambda _: watts
    lines, joules = [], 1e6 + draw(0) * start
    for number in itertools.count():
        second = start + number / 10
        if second > stop + 1e-9:
            return lines
        if not any(a < second < b for a, b in skip):
            line: dict[str, Any] = {"t": ns(second)}
            if power:
                line["instant_mw"] = [round(draw(second) * 1000)] * gpus
            if number % 10 == 0 or second + 0.1 > stop:
                line |= {key: [value] * gpus for key, value in slow.items()}
                if counter:
                    line |= {
                        "counter_ns": [ns(second)] * gpus,
                        "counter_mj": [round(joules * 1000)] * gpus,
                    }
            lines.append(line)
        joules += draw(second) / 10
    raise AssertionError


def write(path: Path, *lines: Any, tail: str = "") -> Path:
    """A log of these lines; lists among them are lines too."""
    flat = [one for line in lines for one in (line if isinstance(line, list) else [line])]
    ordered = (
        sorted(flat, key=lambda line: line["t"]) if all("t" in line for line in flat) else flat
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in ordered) + tail)
    return path
