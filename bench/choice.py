"""Count how often a choice holds on the half of the examples that had no part in it.

    .venv/bin/python -m bench.choice results/demo [--halvings 200]

Each dataset of a finished study is asked for its cheapest cell without a least score, and with
several. Over random halvings of the examples the table says how often a cell is chosen, in how many
of all halvings none is chosen that fails on the other half, and what the choice loses there against
the cheapest cell that keeps to it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench import command_line
from longwatt.answer.choice import Limits, admitted, choose_cell, half_evidence, objective_of
from longwatt.answer.measured import read_points
from longwatt.answer.points import AnswerPoint, main_fields
from longwatt.metrics.resampling import Resampling

STEPS = (0.25, 0.5, 0.75, 0.9)  # least scores between the lowest and the highest of a dataset


class Outcome(NamedTuple):
    """What became of one choice on the other half.

    Attributes:
        held: whether what was asked for holds there.
        energy: by which share the chosen cell takes more than the cheapest that keeps to it there;
            NaN where none does.
        points: by how much its score there is below that cell's, at least 0.
    """

    held: bool
    energy: float
    points: float


def outcome(
    points: Sequence[AnswerPoint], limits: Limits, how: Resampling, seed: int
) -> Outcome | None:
    """Choose on one half and judge on the other, None where nothing was chosen."""
    choice = choose_cell(points, limits, how, seed)
    if choice.chosen is None:
        return None
    there = [choice.stated[point.id] for point in points]
    scores = np.array([point.score for point in there])
    costs = np.array([point.costs(limits.requests)[choice.objective] for point in there], float)
    place = [point.id for point in points].index(choice.chosen.id)
    if limits.min_score is None:
        keeping = admitted(scores, half_evidence(there, how), limits)
    else:
        keeping = scores >= limits.min_score
    if not keeping.any():
        return Outcome(False, np.nan, np.nan)
    best = int(np.where(keeping, costs, np.inf).argmin())
    lost = max(0.0, float(scores[best] - scores[place]))
    return Outcome(bool(keeping[place]), float(costs[place] / costs[best] - 1), lost)


def line(name: str, found: Sequence[Outcome | None]) -> str:
    """Write one row of the table."""
    made = [one for one in found if one is not None]
    fails = sum(not one.held for one in made)
    kept = f"{100 * (1 - fails / len(found)):.1f} %"
    known = [one for one in made if not np.isnan(one.energy)]
    losses = "- | - | -"
    if known:
        energy, lost = (np.array([one[place] for one in known]) for place in (1, 2))
        small = np.mean((energy <= 0.05) & (lost <= 1))
        losses = f"{100 * np.median(energy):.1f} % | {np.median(lost):.2f} | {100 * small:.0f} %"
    return f"| {name} | {len(made)} of {len(found)} | {kept} | {losses} |"


def main() -> None:
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--halvings", type=int, default=200)
    given = parser.parse_args()
    how = Resampling()
    columns = (
        "chosen", "no failing choice", "more energy", "points lost", "at most 5 % and 1 point",
    )  # fmt: skip
    print(f"| asked for | {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|")
    for dataset, points in main_fields(read_points(given.results, how)).items():
        objective = objective_of(points, Limits())
        points = [point for point in points if point.costs(1)[objective] is not None]
        scores = [point.score for point in points]
        low, high = min(scores), max(scores)
        asked = [None, *(round(low + step * (high - low), 1) for step in STEPS)]
        for least in asked:
            limits = Limits(min_score=least)
            words = "no least score" if least is None else f"at least {least}"
            found = [outcome(points, limits, how, seed) for seed in range(given.halvings)]
            print(line(f"{dataset}: {words}", found), flush=True)


if __name__ == "__main__":
    main()
