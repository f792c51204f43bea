"""Judge whether a cascade pays, on other examples than its threshold was fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from longwatt.cascades.members import Answered, paired_samples
from longwatt.cascades.points import CascadeGroup, Member
from longwatt.cascades.thresholds import (
    EscalationCurve,
    cascaded,
    curve_of,
    escalated,
    fitted_place,
    kept_share,
    oracle_of,
    rate_of,
)
from longwatt.metrics.resampling import Resampling, Sample, Scores
from longwatt.metrics.score_intervals import over_examples, paired_difference
from longwatt.study.cascades import MEAN, PROBABILITY

PAYS, DOES_NOT, BY_CHANCE = "cascade", "do not cascade", "undecided"
# Why it does not pay.
ESCALATES, SINGLE_BETTER, LOSES, NO_CHEAPER = "escalates", "single", "loses", "no cheaper"


def single_facts(group: CascadeGroup, how: Resampling) -> list[dict[str, Any]]:
    """List what every cell of a group scores and costs alone, cheap first."""
    return [
        {
            "cell": one.point.cell,
            "score": one.stated.sample.value,
            **_ends("score", over_examples(Scores([one.stated.sample], how)).ends),
            "fitted_score": one.fitted.sample.value,
            "cost": one.point.cost(group.unit),
            "energy_flags": list(one.point.energy_flags),
            "estimated": one.point.estimated,
            "random_weights": one.point.known["random_weights"],
        }
        for one in group.members
    ]


def pair_facts(
    unit: str,
    pair: tuple[Member, Member],
    singles: Sequence[Mapping[str, Any]],
    keep: float,
    how: Resampling,
) -> dict[str, Any]:
    """Fit a cascade of two cells, state it on other examples, and judge it.

    Args:
        unit: of costs.
        pair: the cell that answers all, and that which answers what the first is unsure of.
        singles: of their group, as `single_facts`.
        keep: share of the better cell's score that is to be kept.
        how: of intervals.

    Raises:
        CascadeError: no confidence was recorded.
    """
    first, last = pair
    name = confidence_name(first.fitted)
    fitted = paired_samples(first.fitted, last.fitted)
    stated = paired_samples(first.stated, last.stated)
    sure = first.fitted.confidence(name)
    curve = curve_of(*fitted, sure)
    place = fitted_place(curve, fitted, sure, keep, how)
    threshold = float(curve.thresholds[place])
    asked = escalated(first.stated.confidence(name), threshold)
    costs = first.point.cost(unit), last.point.cost(unit)
    facts = {
        "first": first.point.cell,
        "last": last.point.cell,
        "confidence": name,
        "threshold": threshold,
        "fitted": _at(curve, place, costs),
        "stated": stated_facts(stated, asked, costs, keep, how),
        "break_even_rate": break_even_rate(costs),
        # Two cells may answer better than either alone.
        "at_best": _at_best(curve, (first, last), stated, costs),
        "oracle": _oracle_facts(stated, costs, keep),
    }
    return {**facts, **verdict(facts, singles, keep, how.confidence)}


def confidence_name(answered: Answered) -> str:
    """Return the name of the confidence that answers of this kind have."""
    return PROBABILITY if answered.gold else MEAN


def cascade_cost(costs: tuple[float, float], rate: float) -> float:
    """Return the cost of a request: the first cell's, and the last's at this rate."""
    return costs[0] + rate * costs[1]


def break_even_rate(costs: tuple[float, float]) -> float:
    """Return the escalation rate from which the last cell alone costs less."""
    return max(0.0, 1 - costs[0] / costs[1]) if costs[1] else 0.0


def stated_facts(
    pair: tuple[Sample, Sample],
    asked: Any,
    costs: tuple[float, float],
    keep: float,
    how: Resampling,
) -> dict[str, Any]:
    """State score and cost of a cascade, beside the better of its cells.

    Args:
        pair: of the first and of the last cell.
        asked: which examples the last cell answers.
        costs: of a request to either.
        keep: share of the better cell's score that is to be kept.
        how: of intervals.
    """
    found, rate = cascaded(*pair, asked), rate_of(pair[0], asked)
    best = max(pair, key=lambda one: one.value)
    both = Scores([found], how), Scores([best], how)
    apart = paired_difference(*both, same_seeds=True)
    assert apart is not None, "both cells answered the same examples"
    return {
        "rate": rate,
        "score": found.value,
        **_ends("score", over_examples(both[0]).ends),
        "cost": cascade_cost(costs, rate),
        "difference": found.value - best.value,
        **_ends("difference", apart.ends),
        "kept": found.value / best.value if best.value else 1.0,
        "sure": kept_share(found, best, keep, how),
    }


def _at_best(
    curve: EscalationCurve,
    members: tuple[Member, Member],
    stated: tuple[Sample, Sample],
    costs: tuple[float, float],
) -> dict[str, float]:
    """State the threshold with the highest score where it was fitted."""
    threshold = float(curve.thresholds[int(curve.scores.argmax())])
    sure = members[0].stated.confidence(confidence_name(members[0].stated))
    asked = escalated(sure, threshold)
    rate, score = rate_of(stated[0], asked), cascaded(*stated, asked).value
    return {"threshold": threshold, "rate": rate, "score": score,
            "cost": cascade_cost(costs, rate)}  # fmt: skip


def _oracle_facts(
    pair: tuple[Sample, Sample], costs: tuple[float, float], keep: float
) -> dict[str, Any]:
    """State the oracle where it keeps the score, and at its best."""
    curve = oracle_of(*pair)
    best = max(one.value for one in pair)
    # The order of what examples gain may miss the best of a score that is no mean over examples.
    enough = np.flatnonzero(curve.scores >= min(keep * best, float(curve.scores.max())) - 1e-9)
    places = {"keeps": int(enough[0]), "best": int(curve.scores.argmax())}
    return {name: _at(curve, place, costs) for name, place in places.items()}


def _at(curve: EscalationCurve, place: int, costs: tuple[float, float]) -> dict[str, float]:
    rate = float(curve.rates[place])
    return {"rate": rate, "score": float(curve.scores[place]), "cost": cascade_cost(costs, rate)}


def verdict(
    facts: Mapping[str, Any],
    singles: Sequence[Mapping[str, Any]],
    keep: float,
    confidence: float,
) -> dict[str, Any]:
    """Judge a cascade beside all single cells, at equal cost and equal score.

    Args:
        facts: of the cascade: `first`, `last`, `stated` and `break_even_rate`.
        singles: as `single_facts`.
        keep: share of the better cell's score that is to be kept.
        confidence: with which a score must be lost for the cascade not to pay.

    Returns:
        The `verdict`, `why` it does not pay, and the single cell that is `instead` better, if any.
    """
    stated, costs = facts["stated"], {one["cell"]: one["cost"] for one in singles}
    better = [
        one
        for one in singles
        if one["cost"] <= stated["cost"] and one["score"] >= stated["score"] - 1e-9
    ]
    cheapest = min(better, key=lambda one: one["cost"], default=None)
    judged, why, instead = PAYS, None, None
    if costs[facts["first"]] >= costs[facts["last"]]:
        judged, why = DOES_NOT, NO_CHEAPER
    elif stated["rate"] >= facts["break_even_rate"]:
        judged, why = DOES_NOT, ESCALATES
    elif cheapest:
        judged, why, instead = DOES_NOT, SINGLE_BETTER, cheapest["cell"]
    elif stated["kept"] < keep:
        judged, why = DOES_NOT if stated["sure"] <= 1 - confidence else BY_CHANCE, LOSES
    return {"verdict": judged, "why": why, "instead": instead}


def agreement_facts(
    unit: str,
    three: tuple[Member, Member, Member],
    singles: Sequence[Mapping[str, Any]],
    keep: float,
    how: Resampling,
) -> dict[str, Any]:
    """State a cascade in which two cheap cells must agree, or a third one answers.

    Both cheap ones are always paid. Nothing is fitted. Arguments are those of `pair_facts`.
    """
    first, second, last = three
    answers = zip(first.stated.answers, second.stated.answers, strict=True)
    asked = np.array([one != other for one, other in answers])
    pair = paired_samples(second.stated, last.stated)
    cheap = first.point.cost(unit) + second.point.cost(unit)
    costs = cheap, last.point.cost(unit)
    facts = {
        "first": first.point.cell,
        "second": second.point.cell,
        "last": last.point.cell,
        "stated": stated_facts(pair, asked, costs, keep, how),
        "break_even_rate": break_even_rate(costs),
    }
    return {**facts, **verdict(facts, singles, keep, how.confidence)}


def curves_of(first: Member, last: Member) -> tuple[EscalationCurve, EscalationCurve]:
    """Return the cascade and its oracle at every threshold, on the examples of stating."""
    stated = paired_samples(first.stated, last.stated)
    sure = first.stated.confidence(confidence_name(first.stated))
    return curve_of(*stated, sure), oracle_of(*stated)


def _ends(name: str, ends: tuple[float, float]) -> dict[str, float]:
    return dict(zip((f"{name}_low", f"{name}_high"), ends, strict=True))
