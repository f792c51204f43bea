"""Whether two studies put the same cells into the same order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

ALL = "all cells"
GROUP = (
    "dataset_a",
    "budget_a",
    "protocol_a",
    "inference_a",
)  # cells beyond these are not ranked together


@dataclass(frozen=True)
class Swap:
    """Two cells whose order differs between the studies.

    Attributes:
        better_a, better_b: the rows of the one that is better in the first study, and of the other.
        clear: whether the intervals of the two part them in both studies; else chance may have swapped them.
    """

    better_a: pd.Series[Any]
    better_b: pd.Series[Any]
    clear: bool


@dataclass(frozen=True)
class Ranking:
    """The order of some cells in two studies.

    Attributes:
        scope: which cells.
        group: what they have in common, as GROUP.
        cells: rows of the comparison, with `rank_a` and `rank_b`, 1 for the best.
        tau: Kendall's tau-b: 1 for the same order, -1 for the reverse; NaN where all are equal in a study.
        swaps: the pairs whose order differs.
    """

    scope: str
    group: tuple[str, ...]
    cells: pd.DataFrame
    tau: float
    swaps: list[Swap]


def rankings(comparison: pd.DataFrame) -> list[Ranking]:
    """The order of all cells within each dataset and budget, and of the models at each length.

    Args:
        comparison: as `longwatt.compare.compare`; pairs of other metrics and those without a score are left out.
    """
    scored = comparison.drop(unscored(comparison).index)
    same = scored[scored["score_name_a"] == scored["score_name_b"]]
    found = []
    for key, group in same.groupby(list(GROUP), sort=False):
        scopes = {ALL: group, **_by_length(group)}
        found += [
            _ranking(name, tuple(map(str, key)), cells)
            for name, cells in scopes.items()
            if len(cells) > 1
        ]
    return found


def unscored(comparison: pd.DataFrame) -> pd.DataFrame:
    """The pairs of which a side has no score."""
    return comparison[comparison[["score_a", "score_b"]].isna().any(axis=1)]


def _by_length(group: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The models at one length each; nothing where that is all there is."""
    if group["seq_len_a"].nunique() == 1:
        return {}
    return {f"models at {length} tokens": cells for length, cells in group.groupby("seq_len_a")}


def _ranking(scope: str, group: tuple[str, ...], cells: pd.DataFrame) -> Ranking:
    ranked = cells.assign(
        rank_a=cells["score_a"].rank(ascending=False, method="min").astype(int),
        rank_b=cells["score_b"].rank(ascending=False, method="min").astype(int),
    ).sort_values(["rank_a", "cell_a"])
    return Ranking(
        scope,
        group,
        ranked,
        kendall_tau(ranked["score_a"], ranked["score_b"]),
        list(_swaps(ranked)),
    )


def kendall_tau(first: pd.Series[float], second: pd.Series[float]) -> float:
    """Kendall's tau-b of two sequences of equal length; NaN where one has no order."""
    pairs = list(itertools.combinations(zip(first, second, strict=True), 2))
    signs = [(_sign(a[0] - b[0]), _sign(a[1] - b[1])) for a, b in pairs]
    agreement = sum(x * y for x, y in signs)
    scale = math.sqrt(sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs))
    return agreement / scale if scale else math.nan


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _swaps(cells: pd.DataFrame) -> Iterator[Swap]:
    rows = [row for _, row in cells.iterrows()]  # best of the first study first
    for better, other in itertools.combinations(rows, 2):
        if better["score_a"] > other["score_a"] and better["score_b"] < other["score_b"]:
            yield Swap(better, other, _apart(better, other, "a") and _apart(other, better, "b"))


def _apart(better: pd.Series[Any], other: pd.Series[Any], side: str) -> bool:
    return bool(better[f"score_ci_low_{side}"] > other[f"score_ci_high_{side}"])
