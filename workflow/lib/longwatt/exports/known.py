"""Keep what is known, and note what is left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from longwatt.layout.wording import is_known

KnownFacts = dict[str, Any]


class NothingToExport(ValueError):
    """An export that cannot be written, with the reason and what to do."""


@dataclass
class LeftOut:
    """Notes on what nobody measured or declared, each with the way to do so."""

    found: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, how: str) -> None:
        """Note that something is left out, and how it would be known."""
        self.found.setdefault(what, how)

    def lines(self) -> list[str]:
        """Return a sentence for each thing that is left out."""
        return [f"left out: {what}; {how}" for what, how in self.found.items()]


def without_unknown(value: Any) -> Any:
    """Drop all that is None, NaN or empty from nested mappings and lists.

    Numbers that are 0, and False, stay: they are known.
    """
    if isinstance(value, dict):
        kept = {name: without_unknown(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if not _empty(item)}
    if isinstance(value, list | tuple):
        return [item for item in map(without_unknown, value) if not _empty(item)]
    return value


def _empty(value: Any) -> bool:
    return not is_known(value) or (isinstance(value, dict | list | str) and not value)
