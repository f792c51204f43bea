"""Run the recorder against the stand-in library on a simulated clock: hours pass in seconds.

Started as `python -m tests.nvml.simulate` with a JSON object on standard input; see `run`.
"""

from __future__ import annotations

import json
import mmap
import random
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longwatt.energy.clock import Clock
from longwatt.energy.log import PART_BYTES
from longwatt.energy.marks import Marker
from longwatt.energy.recorder import Order, Recorder
from tests.nvml import FakeGpu, Machine

EPOCH_NS = 10**12  # loads begin here on the simulated clock


class SimulatedClock(Clock):
    """A clock that stands still until it is told to go on; the library reads the same."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as stream:
            self._memory = mmap.mmap(stream.fileno(), 8)

    def now_ns(self) -> int:
        return int(struct.unpack("<q", self._memory[:8])[0])

    def wall_s(self) -> float:
        return 1.8e9 - self.now_ns() / 1e9  # set back all the time: nothing may depend on it

    def set(self, seconds: float) -> None:
        self._memory[:8] = struct.pack("<q", EPOCH_NS + round(seconds * 1e9))

    @property
    def seconds(self) -> float:
        return (self.now_ns() - EPOCH_NS) / 1e9


class FixedRate(random.Random):
    """What the recorder avoids: every pause the same."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


class Script:
    """Lets time pass: marks when they are due, frozen stretches in one leap, the end."""

    def __init__(self, clock: SimulatedClock, marker: Marker, told: Mapping[str, Any]) -> None:
        self.clock, self.marker, self.told = clock, marker, told
        self.marks = list(told["marks"])

    def wait(self, seconds: float) -> Mapping[str, Any] | None:
        target = self.clock.seconds + seconds
        for start, end in self.told["frozen"]:
            if start <= target < end:
                target = end
        while self.marks and self.marks[0][0] <= target:
            moment, phase, more = self.marks.pop(0)
            self.clock.set(max(self.clock.seconds, moment))
            self.marker.mark(phase, **more)
        if target >= self.told["duration"]:
            self.clock.set(self.told["duration"])
            return {"end": "completed", "status": 0}
        self.clock.set(target)
        return None


def run(told: Mapping[str, Any]) -> None:
    """Record one log.

    Args:
        told: clock, out (paths), gpus (UUIDs), start and duration (s), interval_s, seed,
            marks ([s, phase, {attempt, step}]), frozen ([from, to]), marked (whether marks read
            counters), part_bytes, jittered.
    """
    clock = SimulatedClock(Path(told["clock"]))
    clock.set(told["start"])
    order = Order(told["out"], told["gpus"], told["interval_s"], part_bytes=told["part_bytes"])
    recorder = Recorder(order, clock)
    recorder._random = random.Random(told["seed"]) if told["jittered"] else FixedRate()
    marker = Marker(Path(told["out"]), told["gpus"] if told["marked"] else (), clock)
    recorder.run(Script(clock, marker, told))


def simulate(
    machine: Machine,
    gpus: Sequence[FakeGpu],
    out: Path,
    duration: float,
    *,
    start: float = 0.0,
    marks: Sequence[tuple[float, str, Mapping[str, Any]]] = (),
    frozen: Sequence[tuple[float, float]] = (),
    recorded: Sequence[str] | None = None,
    interval_s: float = 0.1,
    seed: int = 0,
    marked: bool = True,
    part_bytes: int = PART_BYTES,
    jittered: bool = True,
) -> Path:
    """Record GPUs (all, or `recorded`) for `duration` simulated seconds in a process of its own."""
    machine.has(gpus, zero_ns=EPOCH_NS)
    machine.clock.write_bytes(struct.pack("<q", EPOCH_NS))
    chosen = [gpu.uuid for gpu in gpus] if recorded is None else list(recorded)
    told = {
        "clock": str(machine.clock), "out": str(out), "gpus": chosen,
        "start": start, "duration": duration, "interval_s": interval_s, "seed": seed,
        "marks": list(marks),
        "frozen": list(frozen), "marked": marked, "part_bytes": part_bytes, "jittered": jittered,
    }  # fmt: skip
    command, env = (
        [sys.executable, "-m", "tests.nvml.simulate"],
        machine.environment(simulated=True),
    )
    subprocess.run(command, input=json.dumps(told), text=True, check=True, env=env)
    return out


if __name__ == "__main__":
    run(json.load(sys.stdin))
