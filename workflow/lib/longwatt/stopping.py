"""Being asked to end (SIGTERM: time limit, preemption, operator): at once, or once what matters is saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CHANGES_NO_RESULT = "It ends a job early, which goes on to an equal result."


class Stopped(BaseException):
    """This worker was asked to end and has; the message says what was saved.

    No Exception, as KeyboardInterrupt is none: a library's own `except` must not swallow it.
    """


class _State:
    asked = False
    deferred = False


def listen() -> None:
    """From now on SIGTERM raises Stopped, or inside `deferred` is only noted."""
    signal.signal(signal.SIGTERM, _on_signal)


def asked() -> bool:
    """Whether this process was asked to end."""
    return _State.asked


@contextmanager
def deferred() -> Iterator[None]:
    """In here nothing is cut short; who runs long looks at `asked` where it can save and leave."""
    if asked():
        raise Stopped("stopped by SIGTERM")
    _State.deferred = True
    try:
        yield
    finally:
        _State.deferred = False


def _on_signal(number: int, frame: Any) -> None:
    first = not _State.asked  # who asks may ask again; leaving is not disturbed
    _State.asked = True
    if first and not _State.deferred:
        raise Stopped("stopped by SIGTERM")
