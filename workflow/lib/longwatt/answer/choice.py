"""Choose the cheapest admissible point on one half of the examples.

The other half, which had no part in the choice, shows what to expect of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from longwatt.answer.points import AnswerPoint, as_contenders, main_fields
from longwatt.metrics.resampling import Array, Resampling, Scores
from longwatt.metrics.score_intervals import at_confidence, mean_of_scores, over_examples

# Costs by which the cheapest is chosen: the first that any admissible point knows.
OBJECTIVES = ("lifecycle_energy", "inference_time", "memory", "money", "train_energy")
COST_UNITS = {
    "train_energy": "kWh", "lifecycle_energy": "kWh", "inference_time": "ms", "memory": "GiB",
    "money": "",
}  # fmt: skip
EQUAL_POINTS = 1.0  # of score that may always be lost against the best, where none is asked for
KEPT = 0.95  # share of halvings in which the asked score is to hold on the other half
FEWEST_UNITS = 4  # examples or documents that can be halved


@dataclass(frozen=True)
class Limits:
    """The limits that a cell must keep to, None where nothing is asked for.

    Attributes:
        min_score: least score, 0 to 100.
        max_kwh: most energy of the training and all requests.
        max_ms: most time of a request.
        max_gib: most memory.
        max_money: most money for the training and all requests.
        requests: that the model answers in its life.
    """

    min_score: float | None = None
    max_kwh: float | None = None
    max_ms: float | None = None
    max_gib: float | None = None
    max_money: float | None = None
    requests: float = 1_000_000

    @property
    def most(self) -> dict[str, float]:
        """The highest allowed cost, by the name of the cost."""
        named = {
            "lifecycle_energy": self.max_kwh,
            "inference_time": self.max_ms,
            "memory": self.max_gib,
            "money": self.max_money,
        }
        return {cost: bound for cost, bound in named.items() if bound is not None}


@dataclass(frozen=True)
class HalfEvidence:
    """The scores of some points on a half of the examples, in one order.

    Attributes:
        values: their scores.
        draws: the same in every resample (points, resamples).
        margins: how far below its score a point may come out on as many other examples.
        tolerances: by how much a point may be below another and still not be told from it.
    """

    values: Array
    draws: Array
    margins: Array
    tolerances: Array


@dataclass(frozen=True)
class Choice:
    """A choice among the points of one dataset.

    Attributes:
        points: all that were looked at, with their scores on all examples.
        limits: what was asked for.
        objective: the cost that was to be least.
        chosen: the point to take; None where none qualifies.
        nearest: the point that lacks least, where none qualifies.
        lacks: by how much it does, in words.
        shares: of the resamples in which each point is chosen, by its id.
        unknown: points that a limit could not be checked of.
        chosen_on: number of examples that it was chosen on; None where they are unknown.
        stated: the points as the other half has them, by id; as they are where none is known.
        halved: whether the other half had no part in the choice.
        rival: the point that is chosen most often beside the chosen one; None without one.
        needed_examples: that would tell both apart; None where that is not known or not needed.
        aside: points of the dataset that cannot be compared with these.
    """

    points: Sequence[AnswerPoint]
    limits: Limits
    objective: str
    chosen: AnswerPoint | None
    nearest: AnswerPoint | None
    lacks: str
    shares: Mapping[str, float]
    unknown: Sequence[AnswerPoint]
    chosen_on: int | None
    stated: Mapping[str, AnswerPoint]
    halved: bool
    rival: AnswerPoint | None = None
    needed_examples: int | None = None
    aside: Sequence[AnswerPoint] = ()

    @property
    def sure(self) -> float | None:
        """The share of resamples in which the same point is chosen, None where unknown."""
        return None if self.chosen is None else self.shares.get(self.chosen.id)


def halves(point: AnswerPoint, seed: int) -> tuple[list[str], list[str]] | None:
    """Split a point's examples into two random halves, documents whole.

    Returns:
        The ids to choose on and those to state on; None of too few examples, or unknown ones.
    """
    documents = point.documents
    units = list(dict.fromkeys(documents))
    if point.scores is None or len(units) < FEWEST_UNITS:
        return None
    order = np.random.default_rng(seed).permutation(len(units))
    first = {units[place] for place in order[: math.ceil(len(units) / 2)]}
    ids: tuple[list[str], list[str]] = ([], [])
    for id_, document in zip(point.scores.ids, documents, strict=True):
        ids[document not in first].append(id_)
    return ids


def half_evidence(points: Sequence[AnswerPoint], how: Resampling) -> HalfEvidence:
    """Gather what the examples of some points say."""
    found = as_contenders(points, how, 0)
    draws = np.array([one.draws for one in found])
    spread = np.cov(draws) if len(found) > 1 else np.array([[draws.var(ddof=1)]])
    own = np.diag(spread)
    apart = np.sqrt(np.clip(own[:, None] + own[None, :] - 2 * spread, 0, None))
    z = NormalDist().inv_cdf((1 + how.confidence) / 2)
    return HalfEvidence(
        values=np.array([one.score for one in found]),
        draws=draws,
        margins=np.array([_margin(point) for point in points]),
        tolerances=np.maximum(EQUAL_POINTS, z * apart),
    )


def _margin(point: AnswerPoint) -> float:
    """Find how far a score may fall on as many other examples.

    Both halves vary, so their difference reaches further than the score by the square root of 2.
    Seeds add theirs.
    """
    one_sided = NormalDist().inv_cdf(KEPT)
    if point.scores is None:
        return one_sided * (point.error or 0.0)
    scores: Scores = at_confidence(point.scores, 2 * KEPT - 1)
    examples = scores.value - over_examples(scores).low
    both = scores.value - mean_of_scores(scores).low
    seeds = math.sqrt(max(0.0, both**2 - examples**2))
    return math.hypot(math.sqrt(2) * examples, seeds)


def admitted(values: Array, found: HalfEvidence, limits: Limits) -> Array:
    """Find the points whose scores are high enough, in one or many resamples.

    Args:
        values: scores (points) or (points, resamples).
        found: margins and tolerances of the same points.
        limits: with the least score. Where none is asked for, a point must not be told from the
            best, or lose no more than EQUAL_POINTS.
    """
    many = values[:, None] if values.ndim == 1 else values
    if limits.min_score is not None:
        kept: Array = np.maximum(many - found.margins[:, None], 0)
        enough = kept >= limits.min_score
    else:
        best = many.argmax(axis=0)
        lost = many.max(axis=0)[None, :] - many
        enough = lost <= found.tolerances[:, best]
    return enough[:, 0] if values.ndim == 1 else enough


def cheapest(values: Array, costs: Array, found: HalfEvidence, limits: Limits) -> Array:
    """Choose the cheapest point whose score is high enough, in one or many resamples.

    Returns:
        Its place, -1 where there is none. Among equally cheap points the higher score decides.
    """
    enough = admitted(values, found, limits)
    order = np.lexsort((-found.values, costs))
    ranked = enough[order]
    chosen: Array = np.where(ranked.any(axis=0), order[ranked.argmax(axis=0)], -1)
    return chosen


def choose_each(
    points: Sequence[AnswerPoint], limits: Limits, how: Resampling
) -> dict[str, Choice]:
    """Choose for each dataset, by its name, among the points that may be compared."""
    found = {}
    for name, field in main_fields(points).items():
        inside = {point.id for point in field}
        others = [one for one in points if one.dataset == name and one.id not in inside]
        found[name] = replace(choose_cell(field, limits, how), aside=others)
    return found


def choose_cell(
    points: Sequence[AnswerPoint], limits: Limits, how: Resampling, seed: int = 0
) -> Choice:
    """Choose among the points of one field.

    Args:
        points: that may be compared (`longwatt.answer.points.main_fields`), at least one.
        limits: what is asked for.
        how: to resample examples.
        seed: of the halving.
    """
    # Results scored before documents were recorded take them from the others.
    ids = halves(min(points, key=lambda one: len(set(one.documents))), seed)
    chosen_on, stated = list(points), list(points)
    if ids is not None:
        chosen_on, stated = ([point.on_part(part) for point in points] for part in ids)
    objective = objective_of(points, limits)
    within, unknown = _within(points, limits, objective)
    known = {point.id: point for point in points}
    picked, shares, rival, needed = None, dict[str, float](), None, None
    if within:
        ours = [one for one in chosen_on if one.id in within]
        found = half_evidence(ours, how)
        costs = np.array([one.costs(limits.requests)[objective] for one in ours], float)
        place = int(cheapest(found.values, costs, found, limits))
        drawn = cheapest(found.draws, costs, found, limits)
        shares = {one.id: float((drawn == number).mean()) for number, one in enumerate(ours)}
        if place >= 0:
            picked = known[ours[place].id]
            other = _rival(place, drawn, len(ours))
            rival = None if other is None else known[ours[other].id]
            needed = None if other is None else _needed(found, place, other, limits, ours[place])
    if spread_unknown(points):
        shares = {}
    nearest, lacks = (None, "") if picked else _nearest(chosen_on, limits, objective)
    return Choice(
        points=points,
        limits=limits,
        objective=objective,
        chosen=picked,
        nearest=known[nearest.id] if nearest else None,
        lacks=lacks,
        shares=shares,
        unknown=[known[name] for name in unknown],
        chosen_on=chosen_on[0].examples,
        stated={point.id: point for point in stated},
        halved=ids is not None,
        rival=rival,
        needed_examples=needed,
    )


def objective_of(points: Sequence[AnswerPoint], limits: Limits) -> str:
    """Name the cost that is to be least, the first that any point knows."""
    costs = [point.costs(limits.requests) for point in points]
    known = (name for name in OBJECTIVES if any(one[name] is not None for one in costs))
    return next(known, OBJECTIVES[0])


def _within(
    points: Sequence[AnswerPoint], limits: Limits, objective: str
) -> tuple[set[str], list[str]]:
    """List the points within all limits of cost, and those that do not know theirs."""
    within, unknown = set(), []
    for point in points:
        costs = point.costs(limits.requests)
        needed = [costs[name] for name in {*limits.most, objective}]
        if None in needed:
            unknown.append(point.id)
        elif all((costs[name] or 0.0) <= bound for name, bound in limits.most.items()):
            within.add(point.id)
    return within, unknown


def spread_unknown(points: Sequence[AnswerPoint]) -> bool:
    """Check whether the spread of a score is unknown, as of imported results may be."""
    return any(point.scores is None and point.error is None for point in points)


def _rival(chosen: int, drawn: Array, count: int) -> int | None:
    """Find the point that is chosen most often beside the chosen one."""
    often = np.bincount(drawn[drawn >= 0], minlength=count)
    often[chosen] = 0
    return int(often.argmax()) if often.any() else None


def _needed(
    found: HalfEvidence, chosen: int, rival: int, limits: Limits, point: AnswerPoint
) -> int | None:
    """Estimate the examples of a half that would tell the chosen point from its rival.

    With a least score it is the nearer of both to that score which must be told from it.
    """
    if not point.examples:
        return None
    if limits.min_score is None:
        gap = abs(found.values[chosen] - found.values[rival])
        spread = (found.draws[chosen] - found.draws[rival]).std()
    else:
        gaps = np.abs(found.values[[chosen, rival]] - limits.min_score)
        place = (chosen, rival)[int(gaps.argmin())]
        gap, spread = gaps.min(), math.sqrt(2) * found.draws[place].std()
    if gap <= 0 or spread <= 0:
        return None
    needed = point.examples * (NormalDist().inv_cdf(KEPT) * 2 * spread / gap) ** 2
    return math.ceil(needed) if needed > point.examples else None


def _nearest(
    points: Sequence[AnswerPoint], limits: Limits, objective: str
) -> tuple[AnswerPoint | None, str]:
    """Find the point that lacks least, and say what it lacks."""
    lacking = [_lacking(point, limits, objective) for point in points]
    known = [(sum(lack.values()), place) for place, lack in enumerate(lacking) if lack]
    if not known:
        return None, ""
    _, place = min(known)
    return points[place], "; ".join(lacking_words(points[place], limits, lacking[place] or {}))


def lacking_words(point: AnswerPoint, limits: Limits, lack: Mapping[str, float]) -> list[str]:
    """Say what a point lacks of what was asked for."""
    costs, words = point.costs(limits.requests), []
    for name in lack:
        if name in limits.most:
            unit = COST_UNITS[name]
            asked = f"{limits.most[name]:g} {unit}".strip()
            words.append(f"{f'it takes {costs[name]:.4g} {unit}'.strip()}, not {asked}")
    if "score" in lack:
        bound = _kept(point)
        words.append(
            f"it scores {point.score:.1f}, which another half of the examples may lower to "
            f"{bound:.1f}, not {limits.min_score:g}"
        )
    return words


def _kept(point: AnswerPoint) -> float:
    return max(0.0, point.score - _margin(point))


def _short(point: AnswerPoint, limits: Limits) -> float:
    return (limits.min_score or 0.0) - _kept(point)


def _lacking(point: AnswerPoint, limits: Limits, objective: str) -> dict[str, float] | None:
    """Return by which share each limit is missed, None where that is unknown."""
    costs = point.costs(limits.requests)
    if any(costs[name] is None for name in {*limits.most, objective}):
        return None
    found = {
        name: ((costs[name] or 0.0) - bound) / bound
        for name, bound in limits.most.items()
        if (costs[name] or 0.0) > bound
    }
    if limits.min_score and (short := _short(point, limits)) > 0:
        found["score"] = short / limits.min_score
    return found
