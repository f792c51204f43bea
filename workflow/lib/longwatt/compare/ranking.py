"""Rank cells of two studies, and find the pairs whose order differs."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from longwatt.compare.pairing import DifferenceWithin

ALL_CELLS = "all cells"
# Cells that differ in these are not ranked together.
RANKED_WITHIN = ("dataset_a", "budget_a", "protocol_a", "inference_a")


@dataclass(frozen=True)
class Swap:
    """Two cells whose order differs between the studies.

    Attributes:
        better_a, better_b: the row of the one that is better in the first study, and of the other.
        clear: whether intervals part the two in both studies. Else chance may have swapped them.
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
        tau: Kendall's tau-b: 1 for the same order, -1 for the reverse, NaN where all are equal in a
            study.
        swaps: the pairs whose order differs.
    """

    scope: str
    group: tuple[str, ...]
    cells: pd.DataFrame
    tau: float
    swaps: list[Swap]


def rankings(
    comparison: pd.DataFrame, within: DifferenceWithin = lambda one, other, place: None
) -> list[Ranking]:
    """Rank all cells within each dataset and budget, and the models at each length.

    Args:
        comparison: as `longwatt.compare.pairing.compare_cells`. Pairs of other metrics and those
            without a score are left out.
        within: compares two cells of one study, as
            `longwatt.compare.pairing.differences_within`. Where it cannot, their intervals must
            not overlap.
    """
    scored = comparison.drop(unscored(comparison).index)
    same = scored[scored["score_name_a"] == scored["score_name_b"]]
    found = []
    for key, group in same.groupby(list(RANKED_WITHIN), sort=False):
        lengths = list(group.groupby("seq_len_a"))
        # With one length the models at it are all cells, ranked already.
        more = lengths if len(lengths) > 1 else []
        scopes = {
            ALL_CELLS: group,
            **{f"models at {length} tokens": cells for length, cells in more},
        }
        names, several = tuple(map(str, key)), [name for name in scopes if len(scopes[name]) > 1]
        found += [_ranking(name, names, scopes[name], within) for name in several]
    return found


def unscored(comparison: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs with a side that has no score."""
    return comparison[comparison[["score_a", "score_b"]].isna().any(axis=1)]


def _ranking(
    scope: str, group: tuple[str, ...], cells: pd.DataFrame, within: DifferenceWithin
) -> Ranking:
    ranks = cells[["score_a", "score_b"]].rank(ascending=False, method="min").astype(int)
    ranked = cells.assign(rank_a=ranks["score_a"], rank_b=ranks["score_b"])
    ranked = ranked.sort_values(["rank_a", "cell_a"])
    tau = kendall_tau(ranked["score_a"], ranked["score_b"])
    return Ranking(scope, group, ranked, tau, _swaps(ranked, within))


def kendall_tau(first: pd.Series[float], second: pd.Series[float]) -> float:
    """Return Kendall's tau-b of two sequences of equal length, NaN where one has no order."""
    x, y = (np.sign(np.subtract.outer(scores, scores)) for scores in map(np.array, (first, second)))
    scale = math.sqrt(np.count_nonzero(x) * np.count_nonzero(y))
    return float((x * y).sum()) / scale if scale else math.nan


def _swaps(cells: pd.DataFrame, within: DifferenceWithin) -> list[Swap]:
    rows = [row for _, row in cells.iterrows()]  # best of the first study first
    return [
        Swap(
            better, other, _apart(better, other, "a", within) and _apart(other, better, "b", within)
        )
        for better, other in itertools.combinations(rows, 2)
        if better["score_a"] > other["score_a"] and better["score_b"] < other["score_b"]
    ]


def _apart(
    better: pd.Series[Any], other: pd.Series[Any], side: str, within: DifferenceWithin
) -> bool:
    """Check whether chance may not have made one cell better than another of the same study."""
    one, second = (int(str(row.name)) for row in (better, other))
    if found := within(one, second, "ab".index(side)):
        return found.low > 0
    return bool(better[f"score_ci_low_{side}"] > other[f"score_ci_high_{side}"])
