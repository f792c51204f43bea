"""Marks: when each phase of a job began, and what its GPUs' counters said then.

A mark is one line in the job's energy log, written by the job itself. A phase lasts until the next mark. Which log
and which GPUs is said by the environment of a metered job; outside one, marks are not written.
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
from longwatt.energy.nvml import READ_LIMIT_NS, Gpus

UNNAMED = "run"  # time of a command outside all phases that it names


class Marker:
    """Writes the marks of one attempt.

    Args:
        path: the energy log; None writes nothing.
        uuids: GPUs whose counters are read at every mark.
        clock: other than the machine's only to simulate.
    """

    def __init__(
        self, path: Path | None, uuids: Sequence[str] = (), clock: Clock | None = None
    ) -> None:
        self.path = path
        self._clock = clock or Clock()
        self._gpus = Gpus(uuids if path else ())
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
        """Begin a phase; work queued on a GPU must be done. A log that cannot be written never stops a job.

        Args:
            phase: its name.
            attempt: which attempt at its work this is, from 1.
            step: training step (or batch) reached.
            checkpoint_counted: whether the time of writing the checkpoint that the attempt goes on from is known to it.
            at_ns: when it began, a moment ago, on the log's clock; None is now.
        """
        if self.path is None:
            return
        moment = self._clock.now_ns() if at_ns is None else at_ns
        line: dict[str, Any] = {"mark": phase, "t": moment, "boot_id": boot_id()}
        line |= {
            "wall_time_s": self._clock.wall_s(),
            "attempt": attempt,
            "step": step,
            "pid": os.getpid(),
        }
        line |= {} if checkpoint_counted is None else {"checkpoint_counted": checkpoint_counted}
        self._gpus.reopen()
        moments, counters = self._gpus.counters_mj(self._clock.now_ns)
        # One that was read late (this process hung) says nothing of this moment.
        read = [
            value if moment - line["t"] < READ_LIMIT_NS else None
            for moment, value in zip(moments, counters, strict=True)
        ]
        line["counter_mj"] = dict(zip(self._gpus.uuids, read, strict=True))
        self._append(line)

    def keep(self, parts: Sequence[Mapping[str, Any]], processes: int) -> None:
        """Say which batches the result of an inference is made of; the last such line of a log counts.

        Args:
            parts: one for each process and attempt: `boot_id`, `attempt`, `process` (from 0) and `windows`, the
                [start, end] of each of its batches in nanoseconds.
            processes: how many work at once.
        """
        if self.path is not None:
            self._append({"kept": list(parts), "processes": processes, "t": self._clock.now_ns()})

    def _append(self, line: Mapping[str, Any]) -> None:
        assert self.path is not None
        try:
            append(self.path, line)
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            print(
                f"longwatt: no mark could be written to {self.path}: {error.strerror}",
                file=sys.stderr,
            )


def mark(name: str, *, attempt: int | None = None, step: int | None = None) -> None:
    """Begin a phase of the metered job that this process is part of; it lasts until the next mark.

    Waits for work that torch has queued on its GPU. Does nothing outside a metered job, and in all processes but
    the first of a launcher's.
    """
    if os.environ.get("RANK", "0") != "0":
        return
    _synchronize()
    _environments_marker(os.environ.get(LOG_VARIABLE, ""), os.environ.get(GPUS_VARIABLE, "")).mark(
        name, attempt=attempt, step=step
    )


@contextlib.contextmanager
def phase(name: str, *, step: int | None = None) -> Iterator[None]:
    """A phase of the metered job that this process is part of; afterwards the phase around it goes on.

    See `mark`.
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


def _synchronize() -> None:
    """Wait for queued GPU work, if this process has any."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
