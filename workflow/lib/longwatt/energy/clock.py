"""The clocks of an energy log."""

from __future__ import annotations

import time
from pathlib import Path

CHANGES_NO_RESULT = "It says when something is metered; how joules are made of it counts."


class Clock:
    """The machine's clocks, replaced only to simulate."""

    def now_ns(self) -> int:
        """Return CLOCK_MONOTONIC in nanoseconds, which is never set back."""
        return time.monotonic_ns()

    def wall_s(self) -> float:
        """Return the seconds since 1970, as the machine believes now."""
        return time.time()


def boot_id() -> str | None:
    """Return the kernel's boot id: monotonic times of different boots cannot be compared."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
