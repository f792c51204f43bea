"""Tables of compared cells with exits for figures: accuracy, time, energy, means over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from longwatt.energy import flags
from longwatt.metrics.seed_intervals import of_a_score, over_seeds_of_scores
from longwatt.results.series import CONFIDENCE

# A panel shows one value of each. A baseline is compared only with points that share them.
PLACE = ["dataset", "encoder", "seq_len", "budget", "split", "batch_size"]
# Points of several seeds are one if they share these: whose they are, and by which rule or after
# which layer they answer.
POINT_COLUMNS = ["kind", "model", "rule", "value", "layer"]
OUR_SERIES, STANDARD_SERIES = "early_exit", "standard"
EFFICIENT_SERIES, ORACLE_SERIES = "efficient", "oracle"
# Numbers of a point that have an interval.
SERIES_NUMBERS = ("accuracy", "relative_time", "joules_per_example", "relative_to_largest")
OTHERS = ("seconds_per_example", "mean_layers", "majority", "encoder_layers")
ENDS = tuple(f"{name}_ci_{end}" for name in SERIES_NUMBERS for end in ("low", "high"))
SAID = ("estimated", "flags", "machine")
SERIES_COLUMNS = (*PLACE, "seed", *POINT_COLUMNS, *SERIES_NUMBERS, *OTHERS, *SAID, *ENDS)


def exit_points(comparisons: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a row of COLUMNS per compared point: ours by each rule, and baselines.

    A baseline that several models are compared with has one row. An unknown number is NaN.

    Args:
        comparisons: those of an exits.json.
    """
    rows = [row for comparison in comparisons for row in _of_one(comparison)]
    table = pd.DataFrame(rows, columns=list(SERIES_COLUMNS))
    table = table.drop_duplicates([*PLACE, "seed", *POINT_COLUMNS], ignore_index=True)
    return _against_largest(table.astype(dict.fromkeys((*SERIES_NUMBERS, *OTHERS, *ENDS), float)))


def over_all_seeds(table: pd.DataFrame, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Return means over seeds of rows of `points`, with Student's intervals.

    One seed keeps the intervals that it has. A number that is unknown of one seed is unknown.
    """
    groups = table.groupby([*PLACE, *POINT_COLUMNS], sort=False, dropna=False)
    rows = [_mean(group, confidence) for _, group in groups]
    return pd.DataFrame(rows, columns=list(SERIES_COLUMNS))


def _of_one(comparison: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    place = {name: comparison.get(name) for name in (*PLACE, "seed", "encoder_layers", "majority")}
    place |= {name: place[name] or "" for name in ("budget", "split")}
    for kind in (STANDARD_SERIES, EFFICIENT_SERIES, ORACLE_SERIES, "points"):
        given = comparison.get(kind) or []
        for entry in [given] if isinstance(given, Mapping) else given:
            yield {**place, **_point(OUR_SERIES if kind == "points" else kind, entry, comparison)}


def _point(kind: str, entry: Mapping[str, Any], comparison: Mapping[str, Any]) -> dict[str, Any]:
    own = kind in (OUR_SERIES, ORACLE_SERIES)
    found = {
        name: entry.get(name) for name in (*SERIES_NUMBERS, *OTHERS) if entry.get(name) is not None
    }
    layers = entry.get("exit_layers") or [None]
    known = (entry.get("machine") or {}).items()
    machine = ", ".join(f"{name} {value}" for name, value in known if value is not None)
    return {
        "kind": ORACLE_SERIES if entry.get("rule") == ORACLE_SERIES else kind,
        "model": comparison["model"] if own else entry.get("model", kind),
        "rule": (entry.get("rule") or "") if own else "",
        "value": entry.get("value") if own else None,
        "layer": None if own else layers[-1],
        "estimated": entry.get("energy_source") == "estimate",
        "flags": flags.joined_flags(entry.get("energy_flags") or ()) or "",
        "machine": machine or None,
        **found,
        **{name: entry.get(name) for name in ENDS},
    }


def _against_largest(table: pd.DataFrame) -> pd.DataFrame:
    """Add the time relative to the standard baseline of the encoder with most layers.

    The slowest of several counts.
    """
    standards = table[table["kind"] == STANDARD_SERIES]
    standards = standards.sort_values(["encoder_layers", "seconds_per_example"])
    shared = [name for name in (*PLACE, "seed") if name != "encoder"]
    largest = standards.groupby(shared, dropna=False)["seconds_per_example"].last()
    keys = table[shared].itertuples(index=False, name=None)
    seconds = pd.Series([largest.get(key, math.nan) for key in keys], index=table.index)
    return table.assign(relative_to_largest=table["seconds_per_example"] / seconds)


def _mean(group: pd.DataFrame, confidence: float) -> dict[str, Any]:
    found: dict[str, Any] = {str(name): value for name, value in group.iloc[0].items()}
    if len(group) == 1:
        return found
    for name in (*SERIES_NUMBERS, *OTHERS):
        found[name] = float(group[name].astype(float).mean(skipna=False))
    for name in SERIES_NUMBERS:
        ends = group[f"{name}_ci_low"], group[f"{name}_ci_high"]
        known = not math.isnan(found[name])
        low, high = math.nan, math.nan
        if known:
            low, high = over_seeds_of_scores(group[name], *ends, confidence)
            low, high = of_a_score(low, high) if name == "accuracy" else (low, high)
        found |= {f"{name}_ci_low": low, f"{name}_ci_high": high}
    return {
        **found,
        "estimated": bool(group["estimated"].any()),
        "flags": flags.joined_flags(flags.union(group["flags"])) or "",
        "machine": " / ".join(sorted(set(group["machine"].dropna()))) or None,
    }
