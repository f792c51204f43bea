"""End a process on SIGTERM (time limit, preemption, operator), at once or once saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CHANGES_NO_RESULT = "It ends a job early, which goes on to an equal result."


class Stopped(BaseException):
    """A worker was asked to end and has. The message says what is saved.

    Like KeyboardInterrupt it is no Exception: a library's own `except` must not swallow it.
    """


class _State:
    asked = False
    deferred = False


def listen() -> None:
    """Make SIGTERM raise Stopped from now on, or only note it inside `deferred`."""
    signal.signal(signal.SIGTERM, _on_signal)


def asked() -> bool:
    """Return whether this process was asked to end."""
    return _State.asked


@contextmanager
def deferred() -> Iterator[None]:
    """Let the block run uncut. A long one polls `asked` to save and leave."""
    if asked():
        raise Stopped("stopped by SIGTERM")
    _State.deferred = True
    try:
        yield
    finally:
        _State.deferred = False


def _on_signal(number: int, frame: Any) -> None:
    first = not _State.asked  # a repeated signal must not disturb the leaving
    _State.asked = True
    if first and not _State.deferred:
        raise Stopped("stopped by SIGTERM")
