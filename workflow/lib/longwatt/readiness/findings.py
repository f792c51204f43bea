"""Collect what a check finds, in place of stopping at the first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from longwatt.config.errors import StudyError
from longwatt.datasets.records import DatasetError
from longwatt.gpus.listing import GpuError
from longwatt.hub.client import HubError
from longwatt.models.errors import ModelError

REFUSALS = (StudyError, DatasetError, GpuError, HubError, ModelError)


@dataclass
class Findings:
    """The outcome of a check.

    Attributes:
        problems: sentences that name file or key and what to do; each would be refused.
        notes: sentences on what is worth a look, though it would run.
        checked: what was looked at, one line each.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)

    def refuse(self, *problems: str) -> None:
        """Add problems, each once."""
        self.problems += [one for one in dict.fromkeys(problems) if one not in self.problems]

    def note(self, *notes: str) -> None:
        """Add notes, each once."""
        self.notes += [one for one in dict.fromkeys(notes) if one not in self.notes]

    def each(self, checks: Iterable[Callable[[], object]]) -> bool:
        """Make all checks, collect what they refuse, and return whether none did."""
        before = len(self.problems)
        for check in checks:
            try:
                check()
            except REFUSALS as error:
                self.refuse(str(error))
        return len(self.problems) == before
