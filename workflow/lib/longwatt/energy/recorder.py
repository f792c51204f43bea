"""The recorder: a small process beside a job that logs its meters' readings.

`longwatt.energy.sidecar` starts it as `python -m longwatt.energy.recorder` and directs it on
standard input: a line of JSON (`Order`), then `watch PID`, and at last `end STATUS`. It ignores the
signals that end a job, and goes on until the job is over. If its starter was killed, that is when
the watched process is gone. Times are CLOCK_MONOTONIC nanoseconds. Only the header knows the wall
clock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from longwatt import __version__
from longwatt.energy.clock import Clock, boot_id
from longwatt.energy.log import PART_BYTES, LogError, LogWriter
from longwatt.energy.meters.nvml import GpuMeters
from longwatt.energy.meters.processor import processor_facts
from longwatt.energy.meters.rapl import Rapl
from longwatt.processes import cpu_seconds

CHANGES_NO_RESULT = "It writes a log beside a job; how joules are made of it counts."

SLOW_EVERY_S = 1.0  # counter and state: a counter read much faster returns its last value
LOG_SYNC_EVERY_S = 5.0
REOPEN_EVERY_S = 5.0
CPU_INTERVAL_S = 0.5  # without a power sensor only CPU time is read, every second
# A fixed period would beat with a periodic load; these are factors of the interval.
JITTER = (0.5, 1.5)
RAPL_FACTS = ("zones", "ranges_uj", "reason")  # of the header


@dataclass(frozen=True)
class Order:
    """A recorder's task.

    Attributes:
        out: the log.
        gpus: full UUIDs; empty on a CPU.
        interval_s: mean time between power samples.
        facts: written into the header (label, command, settings' digests).
        rapl: whether to read the processors' counters where there are no GPUs.
        strict: whether to refuse, before the log is touched, if one of the GPUs cannot be metered.
        part_bytes: size at which the log is cut.
        cpu_of: the process whose CPU time, with that of its descendants, is the job's; None is the
            recorder's starter.
    """

    out: str
    gpus: Sequence[str] = ()
    interval_s: float = 0.1
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rapl: bool = True
    strict: bool = False
    part_bytes: int = PART_BYTES
    cpu_of: int | None = None


class Control(Protocol):
    """Pauses between samples, and the end of the recording."""

    def wait(self, seconds: float) -> Mapping[str, Any] | None:
        """Wait so long, or return the end line's facts once the job is over."""


class Recorder:
    """Writer of one segment of a log: a header, samples, an end.

    Args:
        order: the task.
        clock: the machine's if None; simulations pass another.

    Raises:
        LogError: the log cannot be written, or (if the order is strict) a GPU cannot be metered.
    """

    def __init__(self, order: Order, clock: Clock | None = None) -> None:
        self.order = order
        self.clock = clock or Clock()
        self.gpus = GpuMeters(order.gpus)
        self.devices = self.gpus.describe()
        if order.strict and self.refused:
            reasons = "; ".join(f"{uuid}: {reason}" for uuid, reason in self.refused.items())
            refusal = "not everything that was asked for can be metered, so nothing was started"
            raise LogError(f"{refusal}: {reasons}")
        self.log = LogWriter(Path(order.out), order.part_bytes)
        self.rapl = Rapl() if order.rapl and not order.gpus else None
        self._said = {**self.refused, "": self.gpus.problems.get("", "")}
        self._random = random.Random()
        self._job = order.cpu_of or os.getppid()
        rapl = self.rapl and {name: getattr(self.rapl, name) for name in RAPL_FACTS}
        problem = self.gpus.problems.get("")
        facts = {"gpus": self.devices, "problem": problem, "rapl": rapl}
        self._header = header(order, self.clock) | facts
        self._due = {"slow": 0, "sync": 0, "reopen": 0}
        self._announced = self.log.write(self._header)

    @property
    def refused(self) -> dict[str, str]:
        """Why a GPU is not metered, by UUID."""
        return {device["uuid"]: device["refused"] for device in self.devices if device["refused"]}

    @property
    def metered(self) -> bool:
        """True if a GPU's power can be read."""
        return any(device["refused"] is None for device in self.devices)

    @property
    def unmetered(self) -> str | None:
        """Why nothing at all can be read, or None if something can."""
        if self.metered or (self.rapl and self.rapl.zones):
            return None
        reason = self.rapl.reason if self.rapl else "none of its GPUs can be metered"
        return self.gpus.problems.get("") or reason

    def run(self, control: Control) -> None:
        """Record until `control` says that the job is over."""
        interval = CPU_INTERVAL_S if self.unmetered else self.order.interval_s
        ended = None
        while ended is None:
            self.sample()
            ended = control.wait(interval * self._random.uniform(*JITTER))
        self._due["slow"], now = 0, self.clock.now_ns()
        self.sample()
        shared = {"rapl_shared": self._is_shared()} if self.rapl and self.rapl.zones else {}
        self._write({**ended, "t": now, **shared})
        self.log.close()

    def sample(self) -> None:
        """Append one line with the readings that are due now."""
        start = self.clock.now_ns()
        line: dict[str, Any] = {"t": start}
        if self.metered:
            line["instant_mw"], line["average_mw"] = self.gpus.powers_mw()
        if self.rapl and self.rapl.zones:
            line["rapl_uj"] = self.rapl.energies_uj()
        if self._is_due("slow", start, SLOW_EVERY_S):
            line |= self._slow()
        line["read_us"] = (self.clock.now_ns() - start) // 1000
        self._write(line)
        self._care(start)

    def _is_shared(self) -> bool:
        """Return whether the counters that are read have counted another metered job."""
        return bool(self.rapl and self.rapl.zones and self.rapl.others_were_refused())

    def _write(self, line: Mapping[str, Any]) -> None:
        # No line means anything before the header, so nothing is written until the disk took it.
        if not self._announced:
            self._announced = self.log.write(self._header)
        if self._announced:
            self.log.write(line)

    def _slow(self) -> dict[str, Any]:
        # No estimate is ever made of a job on GPUs, and its many threads take long to walk.
        if not self.order.gpus:
            # Said at once: a log that ends early must not bill the node to this job alone.
            shared = {"rapl_shared": True} if self._is_shared() else {}
            return {"cpu_s": cpu_seconds(self._job), **shared}
        if not self.metered:
            return {}
        # Counters move while others are read, so that each has its own time beside it.
        moments, counters = self.gpus.counters_mj(self.clock.now_ns)
        return {"counter_ns": moments, "counter_mj": counters, **self.gpus.states()}

    def _care(self, now: int) -> None:
        if self._is_due("sync", now, LOG_SYNC_EVERY_S):
            self.log.sync_soon()
        for uuid, problem in self.gpus.problems.items():
            if self._said.setdefault(uuid, "") != problem:
                self._said[uuid] = problem
                self._write({"problem": problem, "gpu": uuid, "t": now})
        if self._is_due("reopen", now, REOPEN_EVERY_S):
            self.gpus.reopen()
        if self.log.too_large():
            self.log.rotate()
            self._announced = self.log.write({**self._header, "continued": True})

    def _is_due(self, what: str, now: int, every_s: float) -> bool:
        if now < self._due[what]:
            return False
        self._due[what] = now + int(every_s * 1e9)
        return True


def header(order: Order, clock: Clock, problem: str | None = None) -> dict[str, Any]:
    """Return the first line of a segment, before anything is known of its meters.

    A `problem` says why there is no recorder, so that the log has marks alone.
    """
    now = clock.now_ns()
    return {
        "segment": f"{os.getpid()}-{now}",
        "t": now,
        "wall_time_s": clock.wall_s(),
        "boot_id": boot_id(),
        "host": socket.gethostname(),
        "processor": processor_facts(),
        "longwatt": __version__,
        "interval_s": order.interval_s,
        "gpus": [{"uuid": uuid, "refused": None} for uuid in order.gpus],
        "problem": problem,
        "rapl": None,
        **order.facts,
    }


class Pipe:
    """Orders of the starter on standard input, and the life of the watched process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._text = b""
        self._pidfd: int | None = None
        self._starter_lives = True
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def wait(self, seconds: float) -> Mapping[str, Any] | None:
        """Wait as `Control.wait` describes."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in self._poll.poll(left * 1000):
                ended = self._read() if descriptor == self._descriptor else self._watched_is_gone()
                if ended is not None:
                    return ended
        return None

    def _read(self) -> Mapping[str, Any] | None:
        data = os.read(self._descriptor, 4096)
        if not data:
            self._starter_lives = False
            self._poll.unregister(self._descriptor)
            return {"end": "died", "status": None} if self._pidfd is None else None
        self._text += data
        *lines, self._text = self._text.split(b"\n")
        for line in lines:
            word, _, value = line.decode().partition(" ")
            if word == "end":
                status = int(value) if value else None
                return {"end": "completed" if status == 0 else "failed", "status": status}
            self.watch(int(value))
        return None

    def watch(self, pid: int) -> None:
        """Watch a process instead of an earlier one."""
        if self._pidfd is not None:
            self._poll.unregister(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        with contextlib.suppress(OSError):  # the process is gone already
            self._pidfd = os.pidfd_open(pid)
            self._poll.register(self._pidfd, select.POLLIN)

    def _watched_is_gone(self) -> Mapping[str, Any] | None:
        assert self._pidfd is not None
        self._poll.unregister(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = None
        # A starter that lives says how it ended.
        return None if self._starter_lives else {"end": "died", "status": None}


def main() -> int:
    """Take an order from standard input, answer it in JSON on descriptor argv[1], and record."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # they are the job's; the recorder ends after it
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):  # the rest is `Pipe`'s
        line += byte
    order = Order(**json.loads(line))
    try:
        recorder = Recorder(order)
    except LogError as error:
        _answer({"error": str(error)})
        return 2
    facts = {name: getattr(recorder, name) for name in ("refused", "metered", "unmetered")}
    _answer({"error": None, **facts})
    pipe = Pipe(0)
    if order.cpu_of is not None:  # its starter may be killed before it can name a process
        pipe.watch(order.cpu_of)
    recorder.run(pipe)
    return 0


def _answer(value: Mapping[str, Any]) -> None:
    """Answer the starter on a pipe that no library prints to."""
    with os.fdopen(int(sys.argv[1]), "w") as stream:
        stream.write(json.dumps(value) + "\n")


if __name__ == "__main__":
    sys.exit(main())
