"""What someone who misspelt a name probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

CHANGES_NO_RESULT = "It finds the name that a misspelt one is close to."


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name most like `name`, to go into a message; empty when none is."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
