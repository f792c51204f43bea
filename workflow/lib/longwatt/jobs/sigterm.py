"""End a process on SIGTERM (time limit, preemption) or Ctrl-C, at once or once saved.

A terminal's Ctrl-C sends SIGINT to Snakemake, the job and its workers. The job alone answers it: it
asks its workers to end as on SIGTERM, and Snakemake waits for them. A second one ends it at once.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from longwatt.progress_record import count_beat

CHANGES_NO_RESULT = "It ends a job early, which goes on to an equal result."


class Stopped(BaseException):
    """A worker was asked to end and has. The message says what is saved.

    Like KeyboardInterrupt it is no Exception: a library's own `except` must not swallow it.
    """


# One press may reach a process twice, from the terminal and from a program between.
SECOND_PRESS_S = 0.5


class _State:
    asked = False
    deferred = False
    asked_at = 0.0
    number = signal.SIGTERM  # by which it was asked


def listen() -> None:
    """Make SIGTERM and Ctrl-C raise Stopped from now on, or only note them inside `deferred`.

    A process that was started deaf to Ctrl-C stays so: a worker, or a command in the background.
    """
    signal.signal(signal.SIGTERM, _on_signal)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _on_signal)


def asked() -> bool:
    """Return whether this process was asked to end.

    Long work asks after every step or batch, which is also when its progress is noted.
    """
    count_beat()
    return _State.asked


def as_asked(said: str) -> str:
    """Name Ctrl-C in what a worker says, if that asked its job to end."""
    return said.replace("SIGTERM", "Ctrl-C") if _State.number == signal.SIGINT else said


@contextmanager
def deferred() -> Iterator[None]:
    """Let the block run uncut. A long one polls `asked` to save and leave."""
    if _State.asked:
        raise Stopped(as_asked("stopped by SIGTERM"))
    _State.deferred = True
    try:
        yield
    finally:
        _State.deferred = False


def _on_signal(number: int, frame: Any) -> None:
    first, now = not _State.asked, time.monotonic()  # a repeated SIGTERM must not disturb leaving
    _State.asked = True
    if first:
        _State.asked_at, _State.number = now, signal.Signals(number)
        if not _State.deferred:
            raise Stopped(as_asked("stopped by SIGTERM"))
    elif number == signal.SIGINT and now - _State.asked_at >= SECOND_PRESS_S:
        raise KeyboardInterrupt
