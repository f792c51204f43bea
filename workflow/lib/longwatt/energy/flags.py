"""Flags of energies: caveats of a number as single words.

docs/reference/energy_log.md explains each. A number of energy is never shown without its flags.
With some of them nothing is claimed of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SHORT, WINDOW = "short", "window"
# The meaning of each of these, where a claim rests on such a number.
DISCLAIMED = {
    SHORT: "is of less than 5 s, or of pieces that are so on average",
    WINDOW: "is of another time than the seconds beside it",
}
# Seconds of an energy's window may differ from those beside it by this share, and by the distance
# of marks.
WINDOW_SHARE, WINDOW_S = 0.01, 0.1


def split(text: Any) -> tuple[str, ...]:
    """Return the flags of a summary's cell (none if it is NA)."""
    return tuple(text.split()) if isinstance(text, str) else ()


def joined_flags(flags: Iterable[str]) -> str | None:
    """Return flags as a summary's cell, each once (None if there are none)."""
    return " ".join(dict.fromkeys(flags)) or None


def union(texts: Iterable[Any]) -> tuple[str, ...]:
    """Return all flags of several summary's cells, each once."""
    return tuple(dict.fromkeys(flag for text in texts for flag in split(text)))


def of_energy(energy: Mapping[str, Any], seconds: float | None) -> list[str]:
    """Return the flags of a row of energy.json beside its work's seconds."""
    flags, counted = list(energy.get("flags", ())), energy.get("duration_s")
    if energy.get("energy_j") is None or counted is None or seconds is None:
        return flags
    allowed = max(WINDOW_S, WINDOW_SHARE * seconds)
    return [*flags, *([WINDOW] if abs(counted - seconds) > allowed else [])]
