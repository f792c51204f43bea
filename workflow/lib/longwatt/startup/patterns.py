"""Constrain wildcards by regular expressions for the names that a study declares."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from longwatt.cells import FINETUNE, PREDICT, Cell


def one_of(names: Iterable[str]) -> str:
    """Match one of these names, or nothing at all if there are none."""
    return "|".join(re.escape(name) for name in sorted(set(names))) or "(?!)"


def part_of(inferences: Iterable[str]) -> str:
    """Match a metered part of some cell, by the study's inference points."""
    return one_of([FINETUNE, *(PREDICT + name for name in inferences)])


def cell_of(cells: Collection[Cell]) -> str:
    """Match cell ids part by part: thousands of alternatives would be slow."""
    names: tuple[set[str], ...] = (
        {cell.dataset for cell in cells},
        {cell.model for cell in cells},
        {str(cell.seq_len) for cell in cells},
        {cell.budget for cell in cells},
        {cell.protocol for cell in cells},
        {f"seed{cell.seed}" for cell in cells},
    )
    return "/".join(f"(?:{one_of(part)})" for part in names)
