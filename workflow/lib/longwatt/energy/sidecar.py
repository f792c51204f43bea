"""Start a recorder beside a job, and end it with the job."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from longwatt.energy.clock import Clock
from longwatt.energy.log import GPUS_VARIABLE, LOG_VARIABLE, append
from longwatt.energy.marks import Marker
from longwatt.energy.recorder import Order, header
from longwatt.processes import finding_package

CHANGES_NO_RESULT = "It starts the recorder beside a job."

START_WAIT_S = 60.0  # a driver that sleeps can take long to start
END_WAIT_S = 10.0
IDLE_AFTER_S = 2.0  # of idle after a job: the sensor that means over a second lags


class RecorderError(RuntimeError):
    """The recorder did not start. The message is its own."""


class Sidecar:
    """A recorder at work.

    Attributes:
        refused: why a GPU is not metered, by UUID.
        metered: whether a GPU's power is read.
        unmetered: why nothing at all is read; None if something is.

    Raises:
        RecorderError: it cannot record.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        answering, answers = os.pipe()
        # A session of its own: a terminal's Ctrl-C is for the job.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "longwatt.energy.recorder", str(answers)],
            env=finding_package(os.environ),
            stdin=subprocess.PIPE,
            stdout=2,  # a library's output must not get into the job's own
            pass_fds=[answers],
            start_new_session=True,
        )
        os.close(answers)
        self._send(json.dumps(dataclasses.asdict(order)))
        answer = _answer(answering)
        if answer["error"]:
            self._process.kill()
            # One that hangs in a driver is left behind.
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._process.communicate(timeout=END_WAIT_S)
            raise RecorderError(answer["error"])
        self.refused: Mapping[str, str] = answer["refused"]
        self.metered: bool = answer["metered"]
        self.unmetered: str | None = answer["unmetered"]
        metered = [uuid for uuid in order.gpus if uuid not in self.refused]
        self._marker = Marker(Path(order.out), metered)

    @property
    def pid(self) -> int:
        """The recorder's process."""
        return self._process.pid

    def environ(self) -> dict[str, str]:
        """Return the variables by which the job's processes find the log."""
        log = str(Path(self.order.out).resolve())
        return {LOG_VARIABLE: log, GPUS_VARIABLE: ",".join(self.order.gpus)}

    def mark(self, phase: str) -> None:
        """Begin a phase from outside the job."""
        self._marker.mark(phase)

    def watch(self, pid: int) -> None:
        """Name the job's process: the recorder outlives a killed starter until it ends."""
        self._send(f"watch {pid}")

    def idle(self, name: str, seconds: float = IDLE_AFTER_S) -> None:
        """Record idle GPUs for a while as a phase, if their power can be read."""
        if self.metered and seconds > 0:
            self.mark(name)
            time.sleep(seconds)

    def close(self, status: int | None) -> None:
        """Tell the recorder how the job ended, and wait for it."""
        self._send(f"end {'' if status is None else status}")
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(END_WAIT_S)
        except subprocess.TimeoutExpired:  # stuck in the driver; the log says that it has no end
            self._process.kill()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it was killed; the log says so
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()


def _answer(descriptor: int) -> dict[str, Any]:
    """Return a recorder's answer: its facts when it has begun, or why it cannot."""
    with os.fdopen(descriptor) as stream:
        if not select.select([stream], [], [], START_WAIT_S)[0]:
            return {"error": f"the recorder did not start within {START_WAIT_S:g} s"}
        try:
            answer: dict[str, Any] = json.loads(stream.readline())
        except ValueError:
            return {"error": "the recorder ended before it began; what it said is above"}
    return answer


@contextlib.contextmanager
def metered(order: Order, tell: Callable[[str], None]) -> Iterator[Sidecar | None]:
    """Run a recorder beside the block's work.

    A job goes on where it cannot run: `tell` says why, and the block gets None. The job's marks are
    written all the same, and give times and, by the GPUs' counters, energy.
    """
    try:
        sidecar = Sidecar(order)
    except (RecorderError, OSError) as error:
        tell(f"the energy recorder does not run: {error}")
        with contextlib.suppress(OSError):
            Path(order.out).parent.mkdir(parents=True, exist_ok=True)
            append(Path(order.out), header(order, Clock(), f"its recorder did not run: {error}"))
        yield None
        return
    for uuid, reason in sidecar.refused.items():
        tell(f"energy of {uuid} is not measured: {reason}")
    status: int | None = None
    try:
        yield sidecar
        status = 0
    finally:
        sidecar.close(status)
