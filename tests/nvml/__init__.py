"""GPUs that are not there: a stand-in for the driver's library, and what its loads truly take."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml.c")
NEVER = 1e12


def uuid(number: int) -> str:
    return f"GPU-{number:08d}-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class FakeGpu:
    """One GPU's load, sensors and faults (see nvml.c); times in seconds since the loads began."""

    uuid: str = uuid(0)
    name: str = "Fake"
    wave: str = "constant"  # of `high`; square, sine, step (from low to high after `period`)
    low: float = 100
    high: float = 400
    period: float = 1
    duty: float = 0.5
    on: float = 0
    off: float = NEVER
    idle: float = 60
    window: float = 0.1
    update: float = 0.1
    average: float = 1
    noise: float = 0
    counter_update: float = 0.1
    reset_at: float = NEVER
    stale_from: float = NEVER
    stale_to: float = NEVER
    lost_from: float = NEVER
    lost_to: float = NEVER
    counter: int = 1
    power: int = 1
    fields: int = 1
    permission: int = 1
    mig: int = 0
    throttle: int = 0
    utilization: int = 90
    flaky: int = 0  # utilisation cannot be read, for no reason

    def joules(self, start: float, end: float) -> float:
        """What it truly takes between two times, in closed form."""
        return self._since_zero(end) - self._since_zero(start)

    def shows(self, t: float) -> float:
        """What nvmlDeviceGetPowerUsage says at a time, W; noise left out."""
        at = math.floor(t / self.update) * self.update
        return self.joules(at - self.window, at) / self.window

    def counted(self, t: float) -> float:
        """What the energy counter says at a time, J since the loads' beginning."""
        return self.joules(0, math.floor(t / self.counter_update) * self.counter_update)

    def _since_zero(self, t: float) -> float:
        on = min(t, self.on)
        off = max(on, min(t, self.off))
        return self.idle * (on + t - off) + self._load(max(0.0, off - self.on))

    def _load(self, x: float) -> float:
        match self.wave:
            case "square":
                whole, rest = divmod(x, self.period)
                busy = whole * self.duty * self.period + min(rest, self.duty * self.period)
                return self.high * busy + self.low * (x - busy)
            case "sine":
                turn = 2 * math.pi / self.period
                mean, half = (self.high + self.low) / 2, (self.high - self.low) / 2
                return mean * x + half * (1 - math.cos(turn * x)) / turn
            case "step":
                return self.low * min(x, self.period) + self.high * max(0.0, x - self.period)
        return self.high * x


# Loads of every kind that fools a sensor.
WAVES = {
    "constant": {"high": 300},
    "square 0.35 s": {"wave": "square", "period": 0.35},
    "square 1 s": {"wave": "square", "period": 1.0},
    "square 2 s": {"wave": "square", "period": 2.0},
    "sine 0.7 s": {"wave": "sine", "period": 0.7},
    "step": {"wave": "step", "period": 60.0},
    "train 20 s, validate 10 s": {"wave": "square", "period": 30.0, "duty": 2 / 3, "low": 200},
}
# What is known of real sensors, by how they see the power that they report.
A100 = {"window": 0.025, "update": 0.1, "average": 0}  # 25 ms of every 100 ms, and no mean
TURING = {"window": 0.1, "update": 0.1, "fields": 0}
AVERAGE = {"window": 1.0, "update": 0.02}  # the mean of the last second, as on most since Ampere


@dataclass
class Machine:
    """A folder with the library, what it pretends, and its clock."""

    folder: Path

    def build(self, *flags: str) -> Machine:
        """Compile the library; needs gcc."""
        library = self.folder / "libnvidia-ml.so.1"
        command = ["gcc", "-shared", "-fPIC", "-O1", f"-Wl,-soname,{library.name}", *flags]
        subprocess.run([*command, "-o", str(library), str(SOURCE), "-lm"], check=True)
        return self

    def has(
        self, gpus: Sequence[FakeGpu], *, zero_ns: int | None = None, init_error: int = 0
    ) -> None:
        """Set the GPUs that the library finds when next initialised; loads begin now by default."""
        zero = time.monotonic_ns() if zero_ns is None else zero_ns
        lines = [f"driver init_error={init_error} zero_ns={zero}"]
        for gpu in gpus:
            facts = [f"{field.name}={getattr(gpu, field.name)}" for field in fields(gpu)]
            lines.append(" ".join(["gpu", *facts]))
        self.configuration.write_text("\n".join(lines) + "\n")

    @property
    def configuration(self) -> Path:
        return self.folder / "gpus.txt"

    @property
    def clock(self) -> Path:
        return self.folder / "clock"

    def environment(self, *, simulated: bool = False) -> dict[str, str]:
        """Return variables with which a process finds these GPUs; `simulated` is for `simulate`."""
        others = [name for name in os.environ if not name.startswith(("CUDA_", "FAKE_NVML"))]
        clock = {"FAKE_NVML_CLOCK": str(self.clock)} if simulated else {}
        own = {"LD_LIBRARY_PATH": str(self.folder), "FAKE_NVML": str(self.configuration), **clock}
        return {**{name: os.environ[name] for name in others}, **own}


def can_build() -> bool:
    """Whether there is a C compiler."""
    return shutil.which("gcc") is not None
