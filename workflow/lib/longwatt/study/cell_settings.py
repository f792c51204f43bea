"""Merge the settings of cells, once for all cells that share them.

A study of thousands of cells has few datasets, models and budgets. Its cells differ by length and
seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from longwatt.study import cells as grid
from longwatt.study import settings
from longwatt.study.cells import Cell
from longwatt.study.settings import Settings

Merge = Callable[..., Settings]
# Settings of a cell's own, beside those it shares. The seed of scoring is that of its bootstrap.
OWN = ("seq_len", "seed")
OWN_OF_SCORING = ("seq_len",)


class CellSettings:
    """Functions of `longwatt.study.settings` for one study, answered in the time of a copy.

    Answers share their inner parts, and must not be changed.
    """

    def __init__(self, study: Mapping[str, Any]) -> None:
        self.study = study
        self._shared: dict[tuple[object, ...], Settings] = {}

    def finetune(self, cell: Cell) -> Settings:
        """Return `settings.finetune_settings` of a cell."""
        found = self._of(settings.finetune_settings, cell, OWN)
        # A table by length may say how large its batch is.
        return {**found, "budget": {**found["budget"], **grid.batch_settings(self.study, cell)}}

    def predict(self, cell: Cell, point: str) -> Settings:
        """Return `settings.predict_settings` of one inference point of a cell."""
        return self._of(settings.predict_settings, cell, OWN, point)

    def score(self, cell: Cell, point: str) -> Settings:
        """Return `settings.score_settings` of one inference point of a cell."""
        return self._of(settings.score_settings, cell, OWN_OF_SCORING, point)

    def _of(self, merge: Merge, cell: Cell, own: Sequence[str], *point: str) -> Settings:
        """Put a cell's own values in place of those of the first cell like it."""
        key = (merge, *point, cell.dataset, cell.model, cell.budget, cell.protocol)
        if key not in self._shared:
            self._shared[key] = merge(self.study, cell, *point)
        shared = self._shared[key]
        return {**shared, **{name: getattr(cell, name) for name in own if name in shared}}
