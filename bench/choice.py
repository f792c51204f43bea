"""Count how often a choice holds on the half of the examples that had no part in it.

    .venv/bin/python -m bench.choice results/demo [--halvings 200]
    .venv/bin/python -m bench.choice --simulated 200

Each dataset of a finished study is asked for its cheapest cell without a least score, and with
several. Over random halvings of the examples the table says how often a cell is chosen, in how many
of all halvings none is chosen that fails on the other half, and what the choice loses there against
the cheapest cell that keeps to it there. With --simulated, cells that nobody trained take the
study's place: equally good ones and ones a little apart, whose errors are shared or not.
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
from longwatt.metrics.resampling import Resampling, Sample, Scores
from longwatt.results.life_cycle import CostParts

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


def simulated(shared: bool, apart: float, source: np.random.Generator) -> list[AnswerPoint]:
    """Draw 200 examples of six cells, each dearer and so much better than the one before.

    With shared errors an example is hard or easy for all. Otherwise each answer is right or wrong
    for itself.
    """
    ids = [f"e{number:03}" for number in range(200)]
    hard, points = source.normal(50, 12, len(ids)), []
    for cell in range(6):
        better = apart * cell
        if shared:
            values = (hard + better + source.normal(0, 8, len(ids))).clip(0, 100)
        else:
            values = 100.0 * (source.random(len(ids)) < (50 + better) / 100)
        scores = Scores([Sample.of(ids, values[:, None])], Resampling(200))
        parts = [CostParts(train_kwh=1.0 + cell, joules=0.0)]
        points.append(
            AnswerPoint(f"c{cell}", "d", "m", scores.value, "f1", parts, scores=scores,
                        examples=len(ids), split="test")
        )  # fmt: skip
    return points


def print_simulated(count: int) -> None:
    """Print how often a choice among made-up cells fails on the other half."""
    how = Resampling(200)
    print("| errors | apart (points) | asked for | chosen | no failing choice |")
    print("|---|---|---|---|---|")
    for shared in (True, False):
        for apart in (0.0, 1.0, 3.0):
            drawn = [simulated(shared, apart, np.random.default_rng(n)) for n in range(count)]
            for least in (44, 47, 50, 53):
                limits = Limits(min_score=least)
                found = [outcome(points, limits, how, n) for n, points in enumerate(drawn)]
                made = [one for one in found if one is not None]
                kept = 1 - sum(not one.held for one in made) / count
                words = "shared" if shared else "independent"
                row = (words, f"{apart:g}", least, f"{len(made)} of {count}", f"{100 * kept:.1f} %")
                print(f"| {' | '.join(map(str, row))} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=Path("results/demo"))
    parser.add_argument("--halvings", type=int, default=200)
    parser.add_argument("--simulated", type=int, metavar="TIMES", help="draw cells so often")
    given = parser.parse_args()
    if given.simulated:
        return print_simulated(given.simulated)
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
