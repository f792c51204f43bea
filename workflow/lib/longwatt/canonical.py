"""One spelling for values that YAML, JSON, CSV and parquet write differently."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Any

_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.0*)?")


def text_of(value: Any) -> str | None:
    """Spell a value as text: true, false, 1 (also for 1.0), an ISO 8601 date.

    Returns:
        The text without outer blanks; None for nothing, for a number that is not whole, and for
        other types.
    """
    if hasattr(value, "item"):  # numpy's scalars
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float | Decimal):
        return str(int(value)) if value == value and value % 1 == 0 else None
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value.isoformat()
    return str(value).strip() if isinstance(value, str | int) else None


def value_key(text: str) -> str:
    """Give texts that write one value the same key: True and true, 1.0 and 1."""
    plain = text.strip()
    if plain.lower() in ("true", "false"):
        return plain.lower()
    if not _WHOLE.fullmatch(plain):
        return plain
    whole = plain.partition(".")[0].lstrip("+")  # no int: it takes no more than 4,300 digits
    return "0" if whole == "-0" else whole
