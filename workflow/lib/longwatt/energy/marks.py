"""Marks: when each phase of a job began, and its GPUs' counters at that moment.

A mark is one line in the job's energy log, written by the job itself. A phase lasts until the next
mark. The environment of a metered job names the log and the GPUs. Outside a metered job, no marks
are written.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from longwatt.energy.clock import Clock, boot_id
from longwatt.energy.log import GPUS_VARIABLE, LOG_VARIABLE, append
from longwatt.energy.meters.nvml import READ_LIMIT_NS, GpuMeters
from longwatt.progress_record import enter_phase

CHANGES_NO_RESULT = "It marks phases in a log; how joules are made of it counts."

UNNAMED = "run"  # time of a command outside all phases that it names


class Marker:
    """Writer of the marks of one attempt.

    Args:
        path: the energy log; None writes nothing.
        uuids: GPUs whose counters are read at every mark.
        clock: the machine's if None; simulations pass another.
    """

    def __init__(
        self, path: Path | None, uuids: Sequence[str] = (), clock: Clock | None = None
    ) -> None:
        self.path = path
        self._clock = clock or Clock()
        self._gpus = GpuMeters(uuids if path else ())
        self._warned = False

    def mark(
        self,
        phase: str,
        *,
        attempt: int | None = None,
        step: int | None = None,
        checkpoint_counted: bool | None = None,
        at_ns: int | None = None,
    ) -> None:
        """Begin a phase, once the work queued on a GPU is done.

        A log that cannot be written never stops a job.

        Args:
            phase: its name.
            attempt: number of the attempt at the job's work, from 1.
            step: training step (or batch) reached.
            checkpoint_counted: whether the attempt knows how long the checkpoint that it resumed
                from took to write.
            at_ns: when it began, a moment ago, on the log's clock; None is now.
        """
        enter_phase(phase, step)
        if self.path is None:
            return
        line: dict[str, Any] = {
            "mark": phase,
            "t": self._clock.now_ns() if at_ns is None else at_ns,
            "boot_id": boot_id(),
            "wall_time_s": self._clock.wall_s(),
            "attempt": attempt,
            "step": step,
            "pid": os.getpid(),
        }
        if checkpoint_counted is not None:
            line["checkpoint_counted"] = checkpoint_counted
        self._gpus.reopen()
        moments, counters = self._gpus.counters_mj(self._clock.now_ns)
        # A counter that was read late (this process hung) says nothing of this moment.
        read = [
            value if moment - line["t"] < READ_LIMIT_NS else None
            for moment, value in zip(moments, counters, strict=True)
        ]
        line["counter_mj"] = dict(zip(self._gpus.uuids, read, strict=True))
        self._append(line)

    def keep(self, parts: Sequence[Mapping[str, Any]], processes: int) -> None:
        """Log the batches of an inference's result. The last such line of a log counts.

        Args:
            parts: one for each process and attempt: `boot_id`, `attempt`, `process` (from 0) and
                `windows`, the [start, end] of each of its batches in nanoseconds.
            processes: number of processes that work at once.
        """
        if self.path is not None:
            self._append({"kept": list(parts), "processes": processes, "t": self._clock.now_ns()})

    def _append(self, line: Mapping[str, Any]) -> None:
        assert self.path is not None
        try:
            append(self.path, line)
        except OSError as error:
            if not self._warned:
                said = f"longwatt: no mark could be written to {self.path}: {error.strerror}"
                print(said, file=sys.stderr)
            self._warned = True


def mark(name: str, *, attempt: int | None = None, step: int | None = None) -> None:
    """Begin a phase of the metered job that this process is part of.

    The phase lasts until the next mark. The function first waits for work that torch has queued on
    its GPU. It does nothing outside a metered job, nor in any process but a launcher's first.
    """
    if os.environ.get("RANK", "0") != "0":
        return
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    path, uuids = (os.environ.get(name, "") for name in (LOG_VARIABLE, GPUS_VARIABLE))
    _environments_marker(path, uuids).mark(name, attempt=attempt, step=step)


@contextlib.contextmanager
def phase(name: str, *, step: int | None = None) -> Iterator[None]:
    """Run a block as a phase of the metered job.

    The phase around it goes on afterwards.
    """
    _open_phases.append(name)
    mark(name, step=step)
    try:
        yield
    finally:
        _open_phases.pop()
        mark(_open_phases[-1] if _open_phases else UNNAMED)


_open_phases: list[str] = []


@functools.cache
def _environments_marker(path: str, uuids: str) -> Marker:
    return Marker(Path(path) if path else None, [uuid for uuid in uuids.split(",") if uuid])
