"""Numbers, intervals and caveats in words, shared by figures, tables and pages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

NA = "NA"  # what is not known
RANDOM_WEIGHTS = "random weights"
ESTIMATED = "estimated"
LISTED = 100  # names or rows of a list on a page


def is_known(value: Any) -> bool:
    """Return whether a value is there and a number where it should be one."""
    return value is not None and value == value  # NaN is not itself


def number(value: Any, shape: str = ".1f") -> str:
    """Write a number in a format, or NA where it is not known."""
    return format(value, shape) if is_known(value) else NA


def interval(low: Any, high: Any, shape: str = ".1f") -> str:
    """Write the ends of an interval: 1.0 to 2.0."""
    return f"{number(low, shape)} to {number(high, shape)}"


def with_interval(value: Any, low: Any, high: Any, shape: str = ".1f") -> str:
    """Write a number, and its interval in brackets where all three are known."""
    known = all(map(is_known, (value, low, high)))
    return number(value, shape) + (f" ({interval(low, high, shape)})" if known else "")


def plain(value: Any) -> str:
    """Write a value alike whether its column has gaps or not: 2.0 is 2."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def short(value: float | None) -> str:
    """Write a number with three digits, or all before the point, thousands parted."""
    if value is None:
        return NA
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 4
    return f"{value:,.{digits}f}"


def duration(seconds: float) -> str:
    """Write a time in the unit that people would use."""
    for limit, unit, word in ((120, 1, "s"), (7200, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{short(seconds / unit)} {word}"
    return f"{short(seconds / (24 * 3600))} days"


def gib(value: float) -> str:
    """Write a size in GiB, or in MiB where it is below one."""
    if 0 < value < 1:
        return f"{short(value * 1024)} MiB"
    return f"{short(value)} GiB" if value else "0"


def percent(share: float, shape: str = ".0f") -> str:
    """Write a share of 1 as a percentage."""
    return f"{100 * share:{shape}} %"


def times(factor: float | None, shape: str = ".1f") -> str:
    """Write how many times as much something is, or NA where it is not known."""
    return NA if factor is None else f"{number(factor, shape)} x"


def how_many(amount: int, what: str) -> str:
    """Write how many of something there are, in the singular or plural."""
    return f"{amount:,} {what}{'' if amount == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Write the first names of a list, and how many more there are."""
    rest = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {rest} more" if rest > 0 else "")


def more_rows(found: Collection[Any], where: str) -> list[str]:
    """Say how many rows of a table are left out, if any are."""
    rest = len(found) - LISTED
    return [f"{rest} more {where}."] if rest > 0 else []


def random_weights(are_random: Any, *, brackets: bool = False) -> str:
    """Return the words behind a model's name if its weights are random."""
    if not are_random:
        return ""
    return f" ({RANDOM_WEIGHTS})" if brackets else f", from {RANDOM_WEIGHTS}"


def estimated(known: Iterable[Any]) -> str:
    """Say whether all or some of several numbers are estimated, if any are."""
    found = list(map(bool, known))
    return ESTIMATED if found and all(found) else f"partly {ESTIMATED}" if any(found) else ""


def beside_energy(is_estimated: bool, flags: Iterable[str]) -> str:
    """Return the words in brackets behind an energy, if there is anything to say."""
    found = list(dict.fromkeys(flags))
    flagged = [f"flagged {', '.join(found)}"] if found else []
    said = [*([ESTIMATED] if is_estimated else []), *flagged]
    return f" ({'; '.join(said)})" if said else ""
