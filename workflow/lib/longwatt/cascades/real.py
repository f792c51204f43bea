"""Compare cascades that ran for real with what their two cells say alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from longwatt.cascades.audit import cascade_cost
from longwatt.cascades.members import paired_samples
from longwatt.cascades.points import AnsweredPoint, CascadeGroup
from longwatt.cascades.thresholds import cascaded, escalated, rate_of
from longwatt.results.differences import unlike_machines

RUN_NOISE = 0.1  # costs of two runs that differ by less than this share are alike


def run_facts(group: CascadeGroup, point: AnsweredPoint) -> dict[str, Any]:
    """Set a cascade that ran beside the one computed from its cells' own answers.

    Returns:
        Its cells, threshold, score and cost as run and as computed, and how many answers and
        escalations differ. Where a cell did not answer these examples alone, `missing` names it
        and nothing is computed.
    """
    said, split = point.cascade, point.known["split"]
    own = point.cost(group.unit) if group.unit != "J" or point.joules is not None else None
    facts = {
        "cell": point.cell,
        "inference": point.known["inference"],
        "split": split,
        **{name: said[name] for name in ("first", "confidence", "threshold", "escalation_rate")},
        "score": point.answered.sample.value,
        "cost": own,
        "examples": len(point.answered.answers),
    }
    alone = {name: group.alone.get(name, {}).get(split) for name in (said["first"], point.cell)}
    for name, one in alone.items():
        if one is None or one.answered.sample.ids != point.answered.sample.ids:
            return {**facts, "missing": name}
    first, last = (one for one in alone.values() if one is not None)
    return {**facts, **_computed(group, point, first, last)}


def _computed(
    group: CascadeGroup, point: AnsweredPoint, first: AnsweredPoint, last: AnsweredPoint
) -> dict[str, Any]:
    pair = paired_samples(first.answered, last.answered)
    sure = first.answered.confidence(point.cascade["confidence"])
    asked = escalated(sure, point.cascade["threshold"])
    answers = np.where(asked, last.answered.answers, first.answered.answers)
    really = np.array([bool(row["escalated"]) for row in point.answered.facts])
    rate = rate_of(pair[0], asked)
    cost = None
    if group.unit != "J" or None not in (first.joules, last.joules):
        cost = cascade_cost((first.cost(group.unit), last.cost(group.unit)), rate)
    unlike = (unlike_machines(point.machine, one.machine) for one in (first, last))
    return {
        "computed_escalation_rate": rate,
        "computed_score": cascaded(*pair, asked).value,
        "computed_cost": cost,
        "differing_escalations": int((really != asked).sum()),
        "differing_answers": int((answers != np.array(point.answered.answers)).sum()),
        "across": next((words for words in unlike if words), None),
    }
