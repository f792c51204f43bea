"""Choose what the page of an answer embeds, and what its tables show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

from longwatt.answer.choice import KEPT, OBJECTIVES
from longwatt.answer.words import METRIC_WORDS
from longwatt.energy.flags import DISCLAIMED
from longwatt.energy.reduction.reduce import ESTIMATE
from longwatt.layout.wording import ESTIMATED, NA, RANDOM_WEIGHTS, is_known, number
from longwatt.results.life_cycle import MEASURED
from longwatt.study.summary_columns import FRONTIER_COSTS

DOMINATING = 3  # points that the page names; answer.json has all
EMBEDDED = (
    "id", "dataset", "model", "model_title", "seq_len", "budget", "budget_title", "protocol",
    "inference", "score", "score_low", "score_high", "random_weights", "diverged", "imported",
    "costs", "joules_per_request", "money_training", "money_per_request", "energy_source",
    "energy_flags", "energy_words", "device", "resampled", "spread_known",
)  # fmt: skip
MAY_LACK = ("seq_len", "budget", "inference", "seeds")  # columns that imported results may lack
MEASURED_WORDS = (
    "Measured energy is that of the counters of GPUs or processors over the whole job, all its "
    "attempts, marked by phase."
)
ESTIMATE_WORDS = (
    "Estimated energy was read from no meter: it is the CPU time of the whole job times the watts "
    "of a busy core, as config.yaml gives them. Compare estimates of one machine alone."
)
UNKNOWN_WORDS = (
    "Energy that is NA was neither measured nor estimated. Such cells are never chosen for their "
    "energy."
)
FLAG_WORDS = (
    "A flag is a caveat of a number. All are explained in docs/reference/energy_log.md of longwatt."
)
RECOMMENDED = ("chosen", "sure", "words", "nearest", "min_score")
VERDICT_MARKS = {"supported": "good", "contradicted": "bad", "not decidable": "open"}


class TableCell(NamedTuple):
    """A cell of the table of points.

    Attributes:
        column: its key.
        text: as people read it.
        value: what the column is sorted by, empty where it is unknown.
        number: whether it is one, which stands to the right.
    """

    column: str
    text: str
    value: str
    number: bool = False


class PointRow(NamedTuple):
    """A row of the table: a point's id, the words on it, and its cells."""

    id: str
    dataset: str
    title: str
    notes: str
    cells: list[TableCell]


def page_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page's scripts use of answer.json, all that is long left out."""
    recommended, own = facts.get("recommendations", {}), main_fields_of(facts)
    normal = NormalDist()
    confidence = facts.get("confidence", 0.95)
    return {
        **{key: facts.get(key) for key in ("study", "title", "requests", "currency")},
        "confidence": confidence,
        "z": normal.inv_cdf((1 + confidence) / 2),
        "z_kept": normal.inv_cdf(KEPT),
        "costs": {name: facts["costs"][name] for name in FRONTIER_COSTS if name in facts["costs"]},
        "default_cost": default_cost(facts["points"]),
        "datasets": {
            name: {
                **one,
                "score_name": METRIC_WORDS.get(one["score_name"], one["score_name"]),
                "field": own.get(name),
            }
            for name, one in facts["datasets"].items()
        },
        "points": [_embedded(point) for point in facts["points"]],
        "recommendations": {
            name: {key: one.get(key) for key in RECOMMENDED} for name, one in recommended.items()
        },
    }


def field_name(point: Mapping[str, Any]) -> str:
    """Name what a point may be compared within: a metric on a split."""
    return f"{point.get('score_name')} {point.get('split')}"


def main_fields_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """Name each dataset's field: that of its recommendation, else of most points."""
    points = {point["id"]: point for point in facts["points"]}
    found = dict[str, str]()
    for name in facts["datasets"]:
        own = [field_name(point) for point in points.values() if point["dataset"] == name]
        one = facts.get("recommendations", {}).get(name, {})
        if recommended := points.get(one.get("chosen") or one.get("nearest")):
            found[name] = field_name(recommended)
        elif own:
            found[name] = Counter(own).most_common(1)[0][0]
    return found


def default_cost(points: Sequence[Mapping[str, Any]]) -> str:
    """Name the cost that is shown first, energy where any is known."""
    return next((name for name in OBJECTIVES if _any_known(points, name)), OBJECTIVES[0])


def _embedded(point: Mapping[str, Any]) -> dict[str, Any]:
    fronts = {
        cost: {**front, "by": list(front.get("by", ()))[:DOMINATING]}
        for cost, front in point.get("frontier", {}).items()
    }
    kept = {key: point[key] for key in EMBEDDED if key in point}
    return {**kept, "field": field_name(point), "frontier": fronts}


def notes_on(point: Mapping[str, Any]) -> str:
    """Return the caveats that stand beside a point's name."""
    flags = point.get("energy_flags") or []
    said = [
        RANDOM_WEIGHTS if point.get("random_weights") else "",
        "diverged" if point.get("diverged") else "",
        "imported" if point.get("imported") else "",
        f"energy {ESTIMATED}" if point.get("energy_source") == "estimate" else "",
        f"energy flagged {', '.join(flags)}" if flags else "",
    ]
    return ", ".join(filter(None, said))


def columns(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the headings of the table by their keys, without those that no point fills."""
    points = facts["points"]
    costs = {
        name: f"{facts['costs'][name]['title']} ({_unit(facts, name)})"
        for name in FRONTIER_COSTS
        if name in facts["costs"] and (name != "money" or _any_known(points, name))
    }
    titles = {
        "cell": "Model", "dataset": "Dataset", "choice": "Choice", "front": "Front",
        "seq_len": "Tokens", "score": "Score", **costs, "budget": "Budget",
        "inference": "Inference", "seeds": "Seeds",
    }  # fmt: skip
    absent = {name for name in MAY_LACK if not any(point.get(name) for point in points)}
    return {name: title for name, title in titles.items() if name not in absent}


def _unit(facts: Mapping[str, Any], name: str) -> str:
    return str((name == "money" and facts.get("currency")) or facts["costs"][name]["unit"])


def _any_known(points: Sequence[Mapping[str, Any]], cost: str) -> bool:
    return any(is_known(point["costs"].get(cost)) for point in points)


def point_rows(facts: Mapping[str, Any]) -> list[PointRow]:
    """Return the table of all points, in their order."""
    names = columns(facts)
    return [
        PointRow(
            point["id"],
            point["dataset"],
            point["model_title"],
            notes_on(point),
            [cell for cell in _cells(point, facts) if cell.column in names],
        )
        for point in facts["points"]
    ]


def _cells(point: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[TableCell]:
    dataset = facts["datasets"][point["dataset"]]["title"]
    seeds, length = len(point.get("seeds") or ()), point["seq_len"]
    run = " ".join(str(point[key]) for key in ("protocol", "inference") if point.get(key))
    chosen = facts["recommendations"].get(point["dataset"], {}).get("chosen") == point["id"]
    yield TableCell("dataset", dataset, dataset)
    yield TableCell("choice", "chosen" if chosen else "", "")
    yield TableCell("front", _front(point, default_cost(facts["points"])), "")
    yield _numbered("seq_len", length, f"{length}")
    low, high = point.get("score_low"), point.get("score_high")
    around = f" ({low:.1f} to {high:.1f})" if is_known(low) and is_known(high) else ""
    score = point["score"]
    yield _numbered("score", score, f"{number(score)}{around}")
    for name in FRONTIER_COSTS:
        value = point["costs"].get(name)
        yield _numbered(name, value, number(value, ".3g"))
    yield TableCell("budget", point["budget_title"] or NA, point["budget_title"] or "")
    yield TableCell("inference", run or NA, run)
    yield _numbered("seeds", seeds or None, f"{seeds}")


def _numbered(column: str, value: Any, text: str) -> TableCell:
    return TableCell(
        column, text if is_known(value) else NA, repr(value) if is_known(value) else "", True
    )


def _front(point: Mapping[str, Any], cost: str) -> str:
    """Say in one word whether a point is on the front of a cost."""
    return (point.get("frontier", {}).get(cost) or {}).get("status") or NA


def energy_notes(facts: Mapping[str, Any]) -> list[str]:
    """Say how energies were come by, and what the words beside them mean."""
    points = facts["points"]
    own = [point for point in points if not point.get("imported")]
    sources = {point.get("energy_source") for point in own}
    flags = dict.fromkeys(flag for point in points for flag in point.get("energy_flags") or ())
    imported = any(point.get("imported") and point.get("energy_source") for point in points)
    said = [
        MEASURED_WORDS if MEASURED in sources else "",
        ESTIMATE_WORDS if ESTIMATE in sources else "",
        UNKNOWN_WORDS if None in sources else "",
        "Imported results say themselves how their energy is known." if imported else "",
        *(f"Flag {flag}: the energy {DISCLAIMED[flag]}." for flag in flags if flag in DISCLAIMED),
        FLAG_WORDS if flags else "",
    ]
    return [*facts["energy"]["words"], *filter(None, said)]


def claim_rows(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the claims with their verdicts, each with the class that colours it."""
    return [
        {
            "id": claim["id"],
            "statement": claim["statement"],
            "verdict": claim["verdict"],
            "mark": VERDICT_MARKS.get(claim["verdict"], "open"),
            "notes": ", ".join(claim.get("notes") or ()),
        }
        for claim in facts.get("claims") or ()
    ]
