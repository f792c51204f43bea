"""The table of settings, with a column per group of cells that share them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from longwatt.layout.wording import NA, plain

NOT_USED = "not used"
# Axis -> what its row is called.
ROWS = {
    "dataset": "datasets",
    "model": "models",
    "seq_len": "input lengths (tokens)",
    "budget": "budgets",
    "protocol": "protocols",
    "seed": "seeds",
}
NAMED_BY = ("dataset", "protocol", "model", "budget", "seq_len", "seed")  # names columns, in order
SettingsGroup = Mapping[str, Any]


def settings_in_force(groups: Sequence[SettingsGroup], titles: Mapping[str, str]) -> pd.DataFrame:
    """Tabulate every setting of every group, under the axes of its cells.

    Args:
        groups: as `longwatt.study.settings_in_force.groups`.
        titles: how datasets, models and budgets are called.
    """
    names = list(dict.fromkeys(name for group in groups for name in group["settings"]))
    headings = _headings(groups, titles)
    rows = [
        [title, *(_names(group, axis, titles) for group in groups)] for axis, title in ROWS.items()
    ]
    rows += [[name, *(_setting(group["settings"], name) for group in groups)] for name in names]
    return pd.DataFrame(rows, columns=["setting", *headings])


def _headings(groups: Sequence[SettingsGroup], titles: Mapping[str, str]) -> list[str]:
    """Name the groups by as few axes as tell them all apart, or number them."""
    values = {axis: {tuple(group["cells"][axis]) for group in groups} for axis in NAMED_BY}
    apart = [axis for axis, found in values.items() if len(found) > 1]
    for count in range(1, len(apart) + 1):
        names = [[_names(group, axis, titles) for axis in apart[:count]] for group in groups]
        headings = [" / ".join(words) for words in names]
        if len(set(headings)) == len(groups):
            return headings
    numbered = [f"group {number}" for number in range(1, len(groups) + 1)]
    return ["all cells"] if len(groups) == 1 else numbered


def _names(group: SettingsGroup, axis: str, titles: Mapping[str, str]) -> str:
    return "; ".join(titles.get(str(value), str(value)) for value in group["cells"][axis])


def _setting(settings: Mapping[str, Any], name: str) -> str:
    """Write a setting for a table, or NA where results do not record their settings."""
    return _value(settings.get(name, NOT_USED)) if settings else NA


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plain(value)
