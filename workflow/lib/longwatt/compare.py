"""Two studies side by side: which cells correspond, and what changes from the one to the other.

Differences are the second study's value less the first's, ratios the second's over the first's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from longwatt import flags
from longwatt.cells import CLASSIFIED
from longwatt.columns import COLUMNS
from longwatt.compare_beside import across
from longwatt.example_scores import ExampleScores, read_examples
from longwatt.fresh_summary import UNSAID, best_summary
from longwatt.intervals import of_difference, over_seeds
from longwatt.metrics.resampling import Interval, Resampling, Scores
from longwatt.points import any_diverged, interval
from longwatt.score_intervals import OVER_SEEDS, paired_difference
from longwatt.summary import read_summary

# What may tell two rows apart beside the seed; without the first there is nothing to compare.
AXES = ("dataset", "model", "seq_len", "budget", "protocol", "inference")
RATIOS = {
    "train_speed_ratio": "train_samples_per_second",
    "inference_speed_ratio": "inference_samples_per_second",
    "train_energy_ratio": "train_energy_kwh",
    "train_power_ratio": "train_mean_power_w",
    "peak_memory_ratio": "peak_memory_gib",
}
FLAGS = "train_energy_flags"
# Of labels, beside the headline score.
OF_LABELS = ("accuracy", "macro_f1", "mean_layers")
# What tells inference points of a classifier apart, whatever they are called.
POINTS = ("exit_rule", "exit_value", "inference_batch_size")
LOG_SEEDS, ONE_RUN, NO_SEEDS = OVER_SEEDS, "one run each: not known", "no seed in common: not known"
NO_SCORE = "none: no score"
SEEDS, APART = OVER_SEEDS, "two independent intervals"
FAULTS = 5  # changed results that a message names


class CompareError(ValueError):
    """Two studies that cannot be set side by side; the message says what to do."""


@dataclass(frozen=True)
class Pair:
    """Rows of two studies that differ in the seed and in the axes left out at most; one row for each seed."""

    first: pd.DataFrame
    second: pd.DataFrame


@dataclass(frozen=True)
class Match:
    """Which rows of two studies correspond.

    Attributes:
        pairs: those that do.
        differing: axes on which the studies have no value in common, with the values of each.
        alone: rows of the first and of the second study that have no partner, by name.
        ambiguous: rows that could have several partners, by name.
    """

    pairs: Sequence[Pair]
    differing: Mapping[str, tuple[Sequence[str], Sequence[str]]]
    alone: tuple[Sequence[str], Sequence[str]]
    ambiguous: Sequence[str]


def read_results(results: Path, study: str) -> pd.DataFrame:
    """Read the summary that tells most of a study's results as they are, with every column that there is now.

    Args:
        results: the folder of all studies' results.
        study: which.

    Raises:
        CompareError: it has none, or one that speaks of other results than are there.
    """
    path, faults = best_summary(results / study)
    if path is None:
        raise CompareError(
            f"{results / study / 'summary.csv'} does not exist: run the study {study} first "
            f"(snakemake --cores all --config study={study}), or have its finished cells summarised "
            f"(snakemake partial --cores 1 --config study={study})"
        )
    if faults and faults != [UNSAID]:
        named = ", ".join(faults[:FAULTS]) + (
            f" and {len(faults) - FAULTS} more" if len(faults) > FAULTS else ""
        )
        raise CompareError(
            f"{path} does not tell the results beside it ({named}): run the study {study} again, or have its finished "
            f"cells summarised (snakemake partial --cores 1 --config study={study})"
        )
    return read_summary(path).reindex(columns=list(COLUMNS))


def match(first: pd.DataFrame, second: pd.DataFrame) -> Match:
    """Pair the rows of two summaries by all axes on which they have any value in common.

    Where no inference point has its name in both studies, those at which a classifier's examples leave by the same rule
    correspond.

    Raises:
        CompareError: no row has a partner.
    """
    first, second = (pd.concat([table, _points(table)], axis=1) for table in (first, second))
    shared = [axis for axis in AXES if axis == AXES[0] or set(first[axis]) & set(second[axis])]
    differing = {
        axis: (_values(first, axis), _values(second, axis)) for axis in AXES if axis not in shared
    }
    keys = shared if "inference" in shared else [*shared, POINT]
    groups = [dict(list(table.groupby(keys, sort=False))) for table in (first, second)]
    both = [key for key in groups[0] if key in groups[1]]
    unclear = {key for key in both if any(_configurations(own[key]) > 1 for own in groups)}
    pairs = [_same_seeds(groups[0][key], groups[1][key]) for key in both if key not in unclear]
    if not pairs:
        raise CompareError(_nothing_in_common(first, second, differing, bool(unclear)))
    used = [
        pd.concat([getattr(pair, side) for pair in pairs]).index for side in ("first", "second")
    ]
    doubtful = [
        _names(pd.concat([own[key] for key in sorted(unclear, key=str)])) if unclear else []
        for own in groups
    ]
    alone = [_names(table.drop(index)) for table, index in zip((first, second), used, strict=True)]
    kept = [
        [name for name in names if name not in set(doubtful[side])]
        for side, names in enumerate(alone)
    ]
    return Match(pairs, differing, (kept[0], kept[1]), sorted({*doubtful[0], *doubtful[1]}))


POINT = "inference_point"


def _points(table: pd.DataFrame) -> pd.Series[str]:
    """Every row's exit rule and batch size in one text; empty for a text model's."""
    parts = table[list(POINTS)].to_dict("records")
    return pd.Series(
        [" ".join(map(_plain, row.values())).strip() for row in parts],
        table.index,
        dtype=str,
        name=POINT,
    )


def _plain(value: Any) -> str:
    """A value as text, whether a column of its kind has gaps or not: 2 is 2.0."""
    if pd.isna(value):
        return ""
    return value if isinstance(value, str) else f"{value:g}"


def _values(table: pd.DataFrame, axis: str) -> list[str]:
    return [str(value) for value in dict.fromkeys(table[axis])]


def _configurations(rows: pd.DataFrame) -> int:
    return len(rows[list(AXES)].drop_duplicates())


def _same_seeds(first: pd.DataFrame, second: pd.DataFrame) -> Pair:
    """The rows whose seeds both have; all where they have none in common."""
    common = sorted(set(first["seed"]) & set(second["seed"]))
    if not common:
        return Pair(first, second)
    own, other = (rows[rows["seed"].isin(common)].sort_values("seed") for rows in (first, second))
    return Pair(own, other)


def _names(rows: pd.DataFrame) -> list[str]:
    return [f"{row.cell} ({row.inference})" for row in rows.itertuples()]


def _nothing_in_common(
    first: pd.DataFrame, second: pd.DataFrame, differing: Mapping[str, Any], unclear: bool
) -> str:
    if unclear:
        return (
            "no cell has a single partner: the studies have no value in common on "
            f"{', '.join(differing)}, and several there; compare studies that differ on fewer axes"
        )
    sets = [", ".join(_values(table, "dataset")) for table in (first, second)]
    return f"the studies have no cell in common (datasets {sets[0]}; and {sets[1]}), whatever axes are left out"


def compare(
    results: Path, studies: tuple[str, str], found: Match, scoring: Mapping[str, Any]
) -> pd.DataFrame:
    """A row for every pair: values of both, differences and ratios; what is unknown is missing.

    Args:
        results: the folder of all studies' results, where examples' scores are looked for.
        studies: the two.
        found: which rows correspond.
        scoring: `bootstrap_resamples`, `confidence` and `seed` of the bootstrap.
    """
    return pd.DataFrame([_row(results, studies, pair, scoring) for pair in found.pairs])


def _row(
    results: Path, studies: tuple[str, str], pair: Pair, scoring: Mapping[str, Any]
) -> dict[str, Any]:
    sides = {"a": pair.first, "b": pair.second}
    row: dict[str, Any] = {f"cell_{side}": " ".join(rows["cell"]) for side, rows in sides.items()}
    for axis in AXES:
        row |= {f"{axis}_{side}": rows[axis].iloc[0] for side, rows in sides.items()}
    for side, rows in sides.items():
        low, high = interval(rows)
        row |= {
            f"score_name_{side}": rows["score_name"].iloc[0],
            f"score_{side}": float(rows["score"].mean(skipna=False)),
        }
        row |= {
            f"score_ci_low_{side}": low,
            f"score_ci_high_{side}": high,
            f"seeds_{side}": len(rows),
        }
        row |= {
            f"initialisation_{side}": rows["initialisation"].iloc[0],
            f"diverged_{side}": any_diverged(rows),
        }
        row |= _of_labels(rows, side)
    row |= _difference(results, studies, pair, scoring)
    for name, column in RATIOS.items():
        row |= _ratio(name, column, pair)
    row |= {"ratio_interval": _ratio_interval(pair), **across(pair.first, pair.second)}
    sources = [set(rows["train_energy_source"].dropna()) for rows in sides.values()]
    row |= {
        f"train_energy_flags_{side}": flags.joined(flags.union(rows[FLAGS]))
        for side, rows in sides.items()
    }
    return {**row, "train_energy_estimated": any("estimate" in source for source in sources)}


def _of_labels(rows: pd.DataFrame, side: str) -> dict[str, Any]:
    """What else is known of a classifier: both metrics of labels and how far its examples ran; nothing of others."""
    if (rows["protocol"] != CLASSIFIED).any():
        return {}
    return {
        f"{name}_{side}": float(rows[name].astype(float).mean(skipna=False)) for name in OF_LABELS
    }


def _ratio(name: str, column: str, pair: Pair) -> dict[str, Any]:
    """Both means and their ratio with its interval; missing where either is unknown for any seed.

    Where both have the same seeds it is the geometric mean of the seeds' ratios, which the interval is about.
    """
    first, second = (rows[column].astype(float) for rows in (pair.first, pair.second))
    means = first.mean(skipna=False), second.mean(skipna=False)
    value, low, high = means[1] / means[0] if means[0] > 0 else math.nan, math.nan, math.nan
    if _ratio_interval(pair) == LOG_SEEDS and (first > 0).all() and (second > 0).all():
        logarithms = np.log(second.to_numpy() / first.to_numpy())
        value, low, high = (math.exp(each) for each in (logarithms.mean(), *over_seeds(logarithms)))
    both = {f"{column}_a": means[0], f"{column}_b": means[1]}
    return {**both, name: value, f"{name}_ci_low": low, f"{name}_ci_high": high}


def _ratio_interval(pair: Pair) -> str:
    """Where the intervals of ratios come from, or why there are none."""
    if len(pair.first) == len(pair.second) == 1:
        return ONE_RUN
    return LOG_SEEDS if list(pair.first["seed"]) == list(pair.second["seed"]) else NO_SEEDS


def _difference(
    results: Path, studies: tuple[str, str], pair: Pair, scoring: Mapping[str, Any]
) -> dict[str, Any]:
    """The difference of the scores with an interval of 95 %, or of the confidence that the study says."""
    nothing = dict.fromkeys(
        ("score_difference", "difference_ci_low", "difference_ci_high"), math.nan
    )
    if pair.first["score"].isna().any() or pair.second["score"].isna().any():
        return {**nothing, "difference_interval": NO_SCORE}
    if pair.first["score_name"].iloc[0] != pair.second["score_name"].iloc[0]:
        return {**nothing, "difference_interval": "none: other metrics"}
    by_seed = pair.second["score"].to_numpy(float), pair.first["score"].to_numpy(float)
    paired = list(pair.first["seed"]) == list(pair.second["seed"])
    if ends := _over_examples(results, studies, pair, scoring):
        low, high, kind = ends
    elif len(pair.first) > 1 and paired and np.ptp(by_seed[0] - by_seed[1]) > 0:
        low, high, kind = (*over_seeds(by_seed[0] - by_seed[1]), SEEDS)
    else:
        low, high, kind = _independent(pair)
    value = float(by_seed[0].mean() - by_seed[1].mean())
    found = {"score_difference": value, "difference_ci_low": low, "difference_ci_high": high}
    return {**found, "difference_interval": kind}


def _independent(pair: Pair) -> tuple[float, float, str]:
    """The interval of a difference of two values that know nothing of each other."""
    first, second = (
        (float(rows["score"].mean()), *interval(rows)) for rows in (pair.first, pair.second)
    )
    return *of_difference(second, first), APART


def _over_examples(
    results: Path, studies: tuple[str, str], pair: Pair, scoring: Mapping[str, Any]
) -> Interval | None:
    """The interval of a difference from the examples of both cells; None unless these are the same examples."""
    sides = [
        _examples_of(results / study, rows)
        for study, rows in zip(studies, (pair.first, pair.second), strict=True)
    ]
    found = [one for side in sides for one in side]
    if None in found or len({one.split for one in found if one}) > 1:
        return None
    name = str(pair.first["score_name"].iloc[0])
    first, second = (
        Scores([one.sample(name) for one in side if one], Resampling.of(scoring)) for side in sides
    )
    if len({sample.ids for scores in (first, second) for sample in scores.samples}) > 1:
        return None
    return paired_difference(second, first, list(pair.first["seed"]) == list(pair.second["seed"]))


def _examples_of(results: Path, rows: pd.DataFrame) -> list[ExampleScores | None]:
    """Read the examples' scores of every seed; None where they are not there."""
    places = zip(rows["cell"], rows["inference"], strict=True)
    paths = [results / cell / "predict" / inference / "examples.csv" for cell, inference in places]
    return [read_examples(path) if path.is_file() else None for path in paths]
