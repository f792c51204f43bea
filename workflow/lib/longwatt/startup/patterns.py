"""Constrain wildcards by regular expressions for the names that a study declares."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from longwatt.study.cells import FINETUNE, PREDICT, Cell


def one_of(names: Iterable[str]) -> str:
    """Match one of these names, or nothing at all if there are none."""
    return "|".join(re.escape(name) for name in sorted(set(names))) or "(?!)"


def part_of(inferences: Iterable[str]) -> str:
    """Match a metered part of some cell, by the study's inference points."""
    return one_of([FINETUNE, *(PREDICT + name for name in inferences)])


def cell_of(cells: Collection[Cell]) -> str:
    """Match cell ids part by part: thousands of alternatives would be slow."""
    parts = zip(*(cell.name.split("/") for cell in cells), strict=True)
    return "/".join(f"(?:{one_of(part)})" for part in parts)
