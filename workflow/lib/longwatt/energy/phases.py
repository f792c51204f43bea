"""Phase marks: when each phase of a job began, and what its meters read then.

One JSON line per mark, appended with one write, so that a killed job leaves a readable log. A phase lasts
until the next mark of its attempt.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longwatt.energy.meter import Meter

SAMPLE_EVERY_S = 1.0  # utilisation and memory; the energy counter itself is read at the marks
GIB = 2**30


class PhaseLog:
    """Appends phase marks for one attempt of a job.

    Args:
        path: the log, appended to.
        attempt: which attempt of the job this is, from 1.
        uuids: the leased GPUs; empty on a CPU.
    """

    def __init__(self, path: Path, attempt: int, uuids: Sequence[str] = ()) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("ab", buffering=0)
        self._attempt = attempt
        self._gpus = len(uuids)
        self._meter = Meter(uuids)
        self._samples: list[tuple[float, float]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        if uuids:
            self._sampler.start()

    def mark(self, phase: str, step: int) -> None:
        """Begin a phase at a training step (or batch); work already queued on a GPU must be done."""
        line = {
            "phase": phase,
            "attempt": self._attempt,
            "step": step,
            "monotonic_ns": time.monotonic_ns(),
            "boot_id": boot_id(),
            "wall_time_s": time.time(),
            "cpu_s": time.process_time(),
            "gpus": self._gpus,
            "gpu_energy_mj": self._meter.energy_mj(),
            **self._drain(),
        }
        self._stream.write((json.dumps(line) + "\n").encode())

    def close(self, step: int) -> None:
        """Mark the end and make the log durable."""
        self.mark("end", step)
        self._stop.set()
        os.fsync(self._stream.fileno())
        self._stream.close()

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_S):
            sample = self._meter.utilization_and_memory()
            if sample is not None:
                with self._lock:
                    self._samples.append(sample)

    def _drain(self) -> dict[str, Any]:
        """Means over the phase that ends now, over time and over GPUs; empty where nothing was read."""
        with self._lock:
            samples, self._samples = self._samples, []
        if not samples:
            return {}
        utilization, memory = (sum(column) / len(samples) for column in zip(*samples, strict=True))
        means = {"n": len(samples), "utilization_pct": utilization, "memory_gib": memory / GIB}
        return {"gpu_samples_before": means}


def boot_id() -> str | None:
    """The kernel's boot id: monotonic times of different boots cannot be compared."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
