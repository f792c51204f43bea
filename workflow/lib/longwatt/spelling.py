"""Suggest the name that was probably meant by a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

CHANGES_NO_RESULT = "It finds the name that a misspelt one is close to."


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like `name`, or None when none is like it."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return close[0] if close else None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint for a message at the known name most like `name`, or ""."""
    close = closest(name, known)
    return f" (did you mean {close!r}?)" if close else ""
