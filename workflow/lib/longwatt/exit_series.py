"""What compared cells with exits say, as tables for figures: points of accuracy, time and energy, means over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from longwatt import flags
from longwatt.intervals import of_a_score, over_seeds_of_scores
from longwatt.points import CONFIDENCE

# What a panel of points shows one of: a baseline is compared only with points that share these.
PLACE = ["dataset", "encoder", "seq_len", "budget", "split", "batch_size"]
# What makes two points of several seeds one: whose they are, and by which rule or after which layer they answer.
POINT = ["kind", "model", "rule", "value", "layer"]
OURS, STANDARD, EFFICIENT, ORACLE = "early_exit", "standard", "efficient", "oracle"
# Numbers of a point that have an interval.
NUMBERS = ("accuracy", "relative_time", "joules_per_example", "relative_to_largest")
OTHERS = ("seconds_per_example", "mean_layers", "majority", "encoder_layers")
COLUMNS = (*PLACE, "seed", *POINT, *NUMBERS, *OTHERS, "estimated", "flags", "machine",
           *(f"{name}_ci_{end}" for name in NUMBERS for end in ("low", "high")))  # fmt: skip


def points(comparisons: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row per compared point with the columns COLUMNS: ours by each rule, and the baselines; unknown is NaN.

    A baseline that several models are compared with has one row.

    Args:
        comparisons: those of an exits.json.
    """
    rows = [row for comparison in comparisons for row in _of_one(comparison)]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).drop_duplicates(
        [*PLACE, "seed", *POINT], ignore_index=True
    )
    numbers = [name for name in COLUMNS if name.startswith(NUMBERS) or name in OTHERS]
    return _against_largest(table.astype(dict.fromkeys(numbers, float)))


def over_all_seeds(table: pd.DataFrame, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Rows of `points` as means over seeds with Student's intervals; one seed keeps the intervals that it has.

    A number that is unknown of one seed is unknown.
    """
    groups = table.groupby([*PLACE, *POINT], sort=False, dropna=False)
    rows = [
        group.iloc[0].to_dict() if len(group) == 1 else _mean(group, confidence)
        for _, group in groups
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _of_one(comparison: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    place = {name: comparison.get(name) for name in (*PLACE, "seed", "encoder_layers", "majority")}
    place |= {name: place[name] or "" for name in ("budget", "split")}
    for kind in (STANDARD, EFFICIENT, ORACLE, "points"):
        given = comparison.get(kind) or []
        for entry in [given] if isinstance(given, Mapping) else given:
            yield {**place, **_point(OURS if kind == "points" else kind, entry, comparison)}


def _point(kind: str, entry: Mapping[str, Any], comparison: Mapping[str, Any]) -> dict[str, Any]:
    own = kind in (OURS, ORACLE)
    ends = {
        f"{name}_ci_{end}": entry.get(f"{name}_ci_{end}")
        for name in NUMBERS
        for end in ("low", "high")
    }
    found = {name: entry.get(name) for name in (*NUMBERS, *OTHERS) if entry.get(name) is not None}
    layers = entry.get("exit_layers") or [None]
    return {
        "kind": ORACLE if entry.get("rule") == ORACLE else kind,
        "model": comparison["model"] if own else entry.get("model", kind),
        "rule": (entry.get("rule") or "") if own else "",
        "value": entry.get("value") if own else None,
        "layer": None if own else layers[-1],
        "estimated": entry.get("energy_source") == "estimate",
        "flags": flags.joined(entry.get("energy_flags") or ()) or "",
        "machine": _machine(entry.get("machine") or {}),
        **found,
        **ends,
    }


def _machine(found: Mapping[str, Any]) -> str | None:
    """What a point was measured on, as one text; None where that is not known."""
    return (
        ", ".join(f"{name} {value}" for name, value in found.items() if value is not None) or None
    )


def _against_largest(table: pd.DataFrame) -> pd.DataFrame:
    """With the time relative to the standard baseline of the encoder with most layers; the slowest of several."""
    standards = table[table["kind"] == STANDARD].sort_values(
        ["encoder_layers", "seconds_per_example"]
    )
    shared = [name for name in (*PLACE, "seed") if name != "encoder"]
    largest = standards.groupby(shared, dropna=False)["seconds_per_example"].last()
    seconds = [
        largest.get(tuple(key), math.nan)
        for key in table[shared].itertuples(index=False, name=None)
    ]
    return table.assign(
        relative_to_largest=table["seconds_per_example"] / pd.Series(seconds, index=table.index)
    )


def _mean(group: pd.DataFrame, confidence: float) -> dict[str, Any]:
    found: dict[str, Any] = {str(name): value for name, value in group.iloc[0].items()}
    for name in (*NUMBERS, *OTHERS):
        found[name] = float(group[name].astype(float).mean(skipna=False))
    for name in NUMBERS:
        ends = group[f"{name}_ci_low"], group[f"{name}_ci_high"]
        known = not math.isnan(found[name])
        low, high = (
            over_seeds_of_scores(group[name], *ends, confidence) if known else (math.nan, math.nan)
        )
        low, high = of_a_score(low, high) if name == "accuracy" and known else (low, high)
        found |= {f"{name}_ci_low": low, f"{name}_ci_high": high}
    said = flags.joined(flags.union(group["flags"])) or ""
    machines = " / ".join(sorted(set(group["machine"].dropna()))) or None
    return {
        **found,
        "estimated": bool(group["estimated"].any()),
        "flags": said,
        "machine": machines,
    }
