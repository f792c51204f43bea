"""The table of settings, with a column per group of cells that share them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from longwatt.wording import NA, plain

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
APART = (
    "dataset",
    "protocol",
    "model",
    "budget",
    "seq_len",
    "seed",
)  # what a column is called by, first to last
Group = Mapping[str, Any]


def settings_in_force(groups: Sequence[Group], titles: Mapping[str, str]) -> pd.DataFrame:
    """Tabulate every setting of every group, under the axes of its cells.

    Args:
        groups: as `longwatt.hyperparameters.groups`.
        titles: how datasets, models and budgets are called.
    """
    names = list(dict.fromkeys(name for group in groups for name in group["settings"]))
    headings = _headings(groups, titles)
    rows = [
        [title, *(_names(group, axis, titles) for group in groups)] for axis, title in ROWS.items()
    ]
    rows += [[name, *(_setting(group["settings"], name) for group in groups)] for name in names]
    return pd.DataFrame(rows, columns=["setting", *headings])


def _headings(groups: Sequence[Group], titles: Mapping[str, str]) -> list[str]:
    """Name the groups by the axes that tell them apart, or number them."""
    # As few of the axes as tell all groups apart.
    for count in range(1, len(APART) + 1):
        apart = [
            axis
            for axis in APART[:count]
            if len({tuple(group["cells"][axis]) for group in groups}) > 1
        ]
        found = [" / ".join(_names(group, axis, titles) for axis in apart) for group in groups]
        if apart and len(set(found)) == len(groups):
            return found
    return (
        ["all cells"]
        if len(groups) == 1
        else [f"group {number}" for number in range(1, len(groups) + 1)]
    )


def _names(group: Group, axis: str, titles: Mapping[str, str]) -> str:
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
