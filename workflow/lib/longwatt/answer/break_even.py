"""Find after how many requests one cell has cost as much as another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from longwatt.answer.points import AnswerPoint
from longwatt.energy.reduction.reduce import J_PER_KWH
from longwatt.results.life_cycle import CostParts


class BreakEven(NamedTuple):
    """The one of two cells that takes less energy, by the number of requests.

    Attributes:
        requests: after which both have taken as much; None where one always takes less.
        few: the one that takes less before, 0 for the first and 1 for the second; None where both
            always take as much.
        many: the one that takes less after.
    """

    requests: float | None
    few: int | None
    many: int | None


def break_even(first: CostParts, second: CostParts) -> BreakEven | None:
    """Compare the life-cycle energies of two cells, None where a part is unknown."""
    sides = first.train_kwh, first.joules, second.train_kwh, second.joules
    one, one_each, other, other_each = sides
    if one is None or other is None or one_each is None or other_each is None:
        return None
    saved, dearer = (other - one) * J_PER_KWH, one_each - other_each
    if saved * dearer > 0:
        return BreakEven(saved / dearer, 0 if saved > 0 else 1, 1 if dearer > 0 else 0)
    if saved == dearer == 0:
        return BreakEven(None, None, None)
    less = 0 if saved > 0 or dearer < 0 else 1
    return BreakEven(None, less, less)


def break_even_table(
    points: Sequence[AnswerPoint],
) -> list[tuple[AnswerPoint, AnswerPoint, BreakEven]]:
    """Compare every two points whose energies are known."""
    pairs = itertools.combinations(points, 2)
    found = ((one, other, break_even(one.mean_parts, other.mean_parts)) for one, other in pairs)
    return [(one, other, both) for one, other, both in found if both is not None]
