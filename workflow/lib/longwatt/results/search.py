"""Choose the best model of a search by its validation score.

Models of a search differ only in the settings searched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SEARCHED_WITHIN = ("dataset", "seq_len", "budget", "protocol", "seed")


def chosen(cells: Iterable[tuple[Mapping[str, Any], float | None]]) -> set[str]:
    """Return the ids of the cells that count.

    A model that no search made always counts. No model of a search counts until all have a score.

    Args:
        cells: for each cell what is known of it (`cell`, the axes, `variant_of`: the entry that a
            search made its model from, or None), and its best validation score; None while that is
            unknown.
    """
    groups: dict[tuple[Any, ...], dict[str, float | None]] = {}
    for known, score in cells:
        key = (
            known.get("variant_of") or known["model"],
            *(known[axis] for axis in SEARCHED_WITHIN),
        )
        groups.setdefault(key, {})[known["cell"]] = score
    return {name for group in groups.values() if (name := _best(group)) is not None}


def _best(scores: Mapping[str, float | None]) -> str | None:
    """Return the first cell with the highest score, or the only cell whatever its score."""
    if len(scores) == 1:
        return next(iter(scores))
    known = {name: score for name, score in scores.items() if score is not None}
    return max(known, key=lambda name: known[name]) if len(known) == len(scores) else None
