"""Say a choice in words: what to take, its costs, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from longwatt.answer.break_even import BreakEven, break_even
from longwatt.answer.choice import COST_UNITS, KEPT, Choice
from longwatt.answer.points import AnswerPoint
from longwatt.energy.reduction.reduce import ESTIMATE, J_PER_KWH
from longwatt.layout.wording import (
    NA,
    RANDOM_WEIGHTS,
    beside_energy,
    how_many,
    interval,
    percent,
    short,
)
from longwatt.metrics.resampling import Resampling, percentile_interval
from longwatt.metrics.score_intervals import FEW_UNITS, paired_difference
from longwatt.results.contenders import normal_draws
from longwatt.results.frontier import SCORE_DIGITS, on_front
from longwatt.results.series import WH

COST_TITLES = {
    "train_energy": "Training energy",
    "lifecycle_energy": "Life-cycle energy",
    "inference_time": "Time of a request",
    "memory": "Peak memory of training",
    "money": "Life-cycle cost",
}
METRIC_WORDS = {"f1": "F1", "score": "points", "accuracy": "% accuracy",
               "rouge_geometric_mean": "ROUGE (geometric mean)"}  # fmt: skip
SURE_ENOUGH = 0.95  # share of resamples from which nothing more is asked for
SMALL_KWH = 1e-5  # less is written in joules
MOST_LISTED = 3  # names of points that are left out
MANY_TIMES = 100  # times today's examples that nobody will collect
ENOUGH_SEEDS = 3
SAME_COST = 0.005  # share below which percent would say 0


class Neighbour(NamedTuple):
    """A point on the front beside the chosen one.

    Attributes:
        point: itself.
        difference: its score less the chosen one's.
        low: lower end of that difference's interval; None if unknown.
        high: upper end.
        ratio: its cost over the chosen one's, 1 where both are 0; None where that alone is 0.
        even: which takes less energy by the number of requests, the neighbour first.
    """

    point: AnswerPoint
    difference: float
    low: float | None
    high: float | None
    ratio: float | None
    even: BreakEven | None


def neighbours(choice: Choice, how: Resampling) -> list[Neighbour]:
    """Find the next cheaper and the next dearer point on the front, as measured."""
    chosen = choice.chosen
    if chosen is None:
        return []
    known = [(one, _cost_of(one, choice)) for one in front_points(choice)]
    front = [pair for pair in known if pair[0] is not chosen]
    own = _cost_of(chosen, choice)
    cheaper = [pair for pair in front if pair[1] <= own]
    dearer = [pair for pair in front if pair[1] > own]
    beside = [*sorted(cheaper, key=_cost)[-1:], *sorted(dearer, key=_cost)[:1]]
    return [_neighbour(choice, chosen, point, cost, own, how) for point, cost in beside]


def front_points(choice: Choice) -> list[AnswerPoint]:
    """List the points on the front of the choice's cost as measured, the cheapest first.

    The chosen point is among them, whether it is on the front or not.
    """
    known = [one for one in choice.points if one.costs(choice.limits.requests)[choice.objective]
             is not None]  # fmt: skip
    costs = np.array([_cost_of(one, choice) for one in known])
    free = on_front(np.array([one.score for one in known]).round(SCORE_DIGITS), costs)
    front = [one for one, on in zip(known, free, strict=True) if on or one is choice.chosen]
    return sorted(front, key=lambda one: _cost_of(one, choice))


def _cost_of(point: AnswerPoint, choice: Choice) -> float:
    return point.costs(choice.limits.requests)[choice.objective] or 0.0


def _cost(pair: tuple[AnswerPoint, float]) -> float:
    return pair[1]


def _neighbour(
    choice: Choice,
    chosen: AnswerPoint,
    point: AnswerPoint,
    cost: float,
    own: float,
    how: Resampling,
) -> Neighbour:
    value, low, high = stated_difference(choice, point, chosen, how)
    even = break_even(point.mean_parts, chosen.mean_parts)
    ratio = cost / own if own else None if cost else 1.0
    return Neighbour(point, value, low, high, ratio, even)


def stated_difference(
    choice: Choice, first: AnswerPoint, second: AnswerPoint, how: Resampling
) -> tuple[float, float | None, float | None]:
    """State one score less another on the other half, with its interval."""
    one, other = choice.stated[first.id], choice.stated[second.id]
    value = one.score - other.score
    if one.scores is not None and other.scores is not None:
        found = paired_difference(one.scores, other.scores, one.seeds == other.seeds)
        return (value, *found.ends) if found else (value, None, None)
    if one.error is None or other.error is None:
        return value, None, None
    drawn = [normal_draws(side.score, side.error or 0.0, how, side.id) for side in (one, other)]
    return (value, *percentile_interval(drawn[0] - drawn[1], how.confidence))


def choice_words(
    choice: Choice, titles: Mapping[str, str], how: Resampling, currency: str | None = None
) -> list[str]:
    """Say which point to take and why, a sentence or two each."""
    if choice.chosen is None:
        return [nothing_words(choice, titles), *_left_out(choice, titles)]
    return [
        f"Take {titles[choice.chosen.id]}{_caveats(choice.chosen)}.",
        f"{_asked(choice)} {_stated(choice)}",
        _takes(choice, currency),
        *(neighbour_words(one, choice, titles) for one in neighbours(choice, how)),
        *_left_out(choice, titles),
        _sure(choice, titles),
        *surer(choice, titles),
    ]


def nothing_words(choice: Choice, titles: Mapping[str, str]) -> str:
    """Say that nothing qualifies, and what comes nearest."""
    if choice.nearest is None:
        return f"Nothing qualifies: the costs that count are not known of any cell. {_cure(choice)}"
    return f"Nothing qualifies. Nearest is {titles[choice.nearest.id]}: {choice.lacks}."


def _cure(choice: Choice) -> str:
    """Say where costs would come from."""
    if any(point.imported for point in choice.points):
        return "Add train_kwh and joules_per_request, or another cost, to the CSV."
    return "Energy needs a meter or watts_per_core in config.yaml."


def _caveats(point: AnswerPoint) -> str:
    said = [RANDOM_WEIGHTS] if point.random_weights else []
    said += ["imported: not measured by longwatt"] if point.imported else []
    return f" ({'; '.join(said)})" if said else ""


def _asked(choice: Choice) -> str:
    """Say the rule of the choice."""
    limits = choice.limits
    cost = COST_TITLES[choice.objective].lower()
    other = "another half of the examples" if choice.halved else "other examples"
    if limits.min_score is not None:
        rule = f"of those that keep {limits.min_score:g} on {other} in {percent(KEPT)} of cases"
    else:
        rule = (
            "of the cells that cannot be told from the best score, or are at most 1 point below it"
        )
    return f"It has the least {cost} {rule}."


def _stated(choice: Choice) -> str:
    assert choice.chosen is not None
    point = choice.stated[choice.chosen.id]
    ends = "" if point.low is None else f" ({interval(point.low, point.high)})"
    metric = METRIC_WORDS.get(point.score_name, point.score_name)
    score = f"{point.score:.1f} {metric}{ends}"
    if choice.halved:
        number = how_many(point.examples or 0, "example")
        return f"On the other half ({number}), which had no part in the choice, it scores {score}."
    return f"It scores {score}, on what it was also chosen by: expect rather less elsewhere."


def _takes(choice: Choice, currency: str | None) -> str:
    """Say what the chosen point costs."""
    assert choice.chosen is not None
    point, requests = choice.chosen, choice.limits.requests
    costs = point.costs(requests)
    energy = costs["lifecycle_energy"]
    if energy is None:
        first = (
            f"Its energy is not known, so it was chosen by {COST_TITLES[choice.objective].lower()}"
            if choice.objective != "lifecycle_energy"
            else "Its energy is not known"
        )
    else:
        said = beside_energy(point.energy_source == ESTIMATE, point.energy_flags)
        train, served = costs["train_energy"], how_many(round(requests), "request")
        first = (
            f"Training and {served} take {energy_text(energy)}{said}, "
            f"{energy_text(train)} of it for the training"
        )
    units = {**COST_UNITS, "money": currency or ""}
    named = {"inference_time": "a request", "memory": "training", "money": "all of it"}
    more = [
        f"{what} takes {short(costs[name])} {units[name]}".strip()
        for name, what in named.items()
        if costs[name] is not None
    ]
    return "; ".join([first, *more]) + "."


def neighbour_words(one: Neighbour, choice: Choice, titles: Mapping[str, str]) -> str:
    """Say what a neighbour on the front costs and scores beside the chosen point."""
    cost = COST_TITLES[choice.objective].lower()
    if one.ratio is None:
        costs = f"has more {cost}"
    elif abs(one.ratio - 1) < SAME_COST:
        costs = f"has about the same {cost}"
    elif one.ratio <= 1:
        costs = f"has {percent(1 - one.ratio)} less {cost}"
    else:
        more = percent(one.ratio - 1) if one.ratio < 2 else f"{one.ratio:.3g} times as much"
        costs = f"has {more} more {cost}" if one.ratio < 2 else f"has {more} {cost}"
    word = "more" if one.difference >= 0 else "less"
    ends = ""
    if one.low is not None and one.high is not None:
        sides = (one.low, one.high) if one.difference >= 0 else (-one.high, -one.low)
        ends = f" ({interval(*sides)})"
    scores = f"scores {abs(one.difference):.1f} points {word}{ends}"
    return f"{titles[one.point.id]} {costs} and {scores}.{_even_words(one, choice, titles)}"


def _even_words(one: Neighbour, choice: Choice, titles: Mapping[str, str]) -> str:
    assert choice.chosen is not None
    if one.even is None:
        return ""
    names = titles[one.point.id], titles[choice.chosen.id]
    return " " + even_words(one.even, names)


def energy_text(kwh: float | None) -> str:
    """Write an energy in the unit that fits its size."""
    if kwh is None:
        return NA
    if kwh == 0:
        return "0 kWh"
    if kwh >= 1:
        return f"{short(kwh)} kWh"
    if kwh >= SMALL_KWH:
        return f"{short(WH.per_kwh * kwh)} Wh"
    return f"{short(J_PER_KWH * kwh)} J"


def even_words(even: BreakEven, names: tuple[str, str]) -> str:
    """Say which of two takes less energy, by the number of requests."""
    if even.few is None or even.many is None:
        return "Both take the same energy."
    if even.requests is None:
        return f"{names[even.few]} takes less energy however many requests there are."
    if even.requests < 1:
        return f"{names[even.many]} takes less energy from the first request on."
    return (
        f"Up to {even.requests:,.0f} requests {names[even.few]} takes less energy, after that "
        f"{names[even.many]}."
    )


def _left_out(choice: Choice, titles: Mapping[str, str]) -> list[str]:
    lost = [point for point in choice.aside if point.diverged]
    others = [point for point in choice.aside if not point.diverged]
    reasons = {
        "since a cost that counts is not known": choice.unknown,
        "since a training diverged": lost,
        "since they have other examples, another metric, or no examples there": others,
    }
    return [
        f"Left out, {why}: {_some([titles[point.id] for point in points])}."
        for why, points in reasons.items()
        if points
    ]


def _some(names: Sequence[str]) -> str:
    """List the first names, and how many more there are."""
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return "; ".join(names[:MOST_LISTED]) + more


def _sure(choice: Choice, titles: Mapping[str, str]) -> str:
    if choice.sure is None:
        return (
            "How sure the choice is, is not known: the results say neither how many examples they "
            "rest on nor an interval."
        )
    beside = f", else most often {titles[choice.rival.id]}" if choice.rival else ""
    number, caveat = choice.chosen_on, ""
    if number is not None and number < FEW_UNITS:
        caveat = f", but {how_many(number, 'example')} cannot stand for others"
    return f"{percent(choice.sure)} of the resamples choose the same{beside}{caveat}."


def surer(choice: Choice, titles: Mapping[str, str]) -> list[str]:
    """Say what would have to be measured to be surer, nothing where it is sure."""
    assert choice.chosen is not None
    chosen, rival = choice.chosen, choice.rival
    said = []
    if rival and (choice.sure or 0.0) < SURE_ENOUGH:
        said += _more_examples(choice, rival, titles)
    few = [one for one in (chosen, rival) if one and len(one.seeds) < ENOUGH_SEEDS]
    if few and not chosen.imported:
        names = " and ".join(titles[one.id] for one in few)
        said.append(f"more seeds of {names}, of which {_seed_words(few)}")
    said += _meter(chosen, rival, choice, titles)
    return [f"To be surer, measure {'; '.join(said)}."] if said else []


def _more_examples(choice: Choice, rival: AnswerPoint, titles: Mapping[str, str]) -> list[str]:
    assert choice.chosen is not None
    today, needed = choice.chosen_on, choice.needed_examples
    if today is None or needed is None or needed > MANY_TIMES * today:
        return []
    names = f"{titles[choice.chosen.id]} from {titles[rival.id]}"
    whole = (2 if choice.halved else 1) * needed
    return [f"about {_rounded(whole):,} examples instead of {_today(choice):,}, to tell {names}"]


def _today(choice: Choice) -> int:
    assert choice.chosen is not None
    return choice.chosen.examples or 0


def _rounded(number: int) -> int:
    """Round an estimate to two digits."""
    return int(float(f"{number:.2g}"))


def _seed_words(points: Sequence[AnswerPoint]) -> str:
    most = max(len(point.seeds) for point in points)
    return "one training tells nothing of another" if most < 2 else "two say little of a third"


def _meter(
    chosen: AnswerPoint, rival: AnswerPoint | None, choice: Choice, titles: Mapping[str, str]
) -> list[str]:
    both = [one for one in (chosen, rival) if one]
    unknown = [one for one in both if one.costs(choice.limits.requests)["lifecycle_energy"] is None]
    if unknown:
        names = " and ".join(titles[one.id] for one in unknown)
        return [f"the energy of {names}, which needs a meter or watts_per_core in config.yaml"]
    estimated = [one for one in both if one.energy_source == ESTIMATE]
    if estimated:
        return ["energy with a meter, which is estimated so far"]
    flagged = sorted({flag for one in both for flag in one.energy_flags})
    return [f"energy again, which is flagged {', '.join(flagged)}"] if flagged else []


def as_facts(one: Neighbour, choice: Choice, titles: Mapping[str, str]) -> dict[str, Any]:
    """Return a neighbour as answer.json has it."""
    return {
        "id": one.point.id,
        "score_difference": one.difference,
        "low": one.low,
        "high": one.high,
        "lifecycle_ratio": one.ratio if choice.objective == "lifecycle_energy" else None,
        "break_even_requests": one.even.requests if one.even else None,
        "words": neighbour_words(one, choice, titles),
    }
