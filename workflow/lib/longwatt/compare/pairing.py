"""Match the cells of two studies, and compute the changes between them.

Differences are the second study's value less the first's, ratios the second's over the first's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from longwatt.compare.beside import across
from longwatt.compare.settings import Studies
from longwatt.energy import flags
from longwatt.freshness.summaries import NO_ORIGINS, best_summary
from longwatt.layout.wording import plain
from longwatt.metrics.resampling import Resampling, Scores
from longwatt.metrics.score_intervals import OVER_SEEDS, PairedEstimate, paired_difference
from longwatt.metrics.seed_intervals import of_difference, over_seeds
from longwatt.results.example_scores import ExampleScores, read_examples
from longwatt.results.series import any_diverged, attention_words, mean_interval
from longwatt.results.summary import read_summary
from longwatt.study.cells import CLASSIFIED
from longwatt.study.summary_columns import COLUMNS

# Columns that may tell two rows apart beside the seed. Without the first nothing is compared.
PAIRED_BY = ("dataset", "model", "seq_len", "budget", "protocol", "inference")
RATIO_COLUMNS = {
    "train_speed_ratio": "train_samples_per_second",
    "inference_speed_ratio": "inference_samples_per_second",
    "train_energy_ratio": "train_energy_kwh",
    "train_power_ratio": "train_mean_power_w",
    "peak_memory_ratio": "peak_memory_gib",
}
FLAGS_COLUMN = "train_energy_flags"
# Columns of classifiers beside the headline score.
OF_LABELS = ("accuracy", "macro_f1", "mean_layers")
# Columns that tell inference points of a classifier apart, whatever they are called.
POINT_SETTINGS = ("exit_rule", "exit_value", "inference_batch_size")
POINT_COLUMN = "inference_point"
LOG_SEEDS, ONE_RUN, NO_SEEDS = OVER_SEEDS, "one run each: not known", "no seed in common: not known"
NO_SCORE = "none: no score"
SEEDS, TWO_INTERVALS = OVER_SEEDS, "two independent intervals"
FAULTS = 5  # changed results that a message names

Bootstrap = Mapping[str, Any]
# By the numbers of two pairs, and the place of a study.
DifferenceWithin = Callable[[int, int, int], PairedEstimate | None]


class CompareError(ValueError):
    """Two studies that cannot be set side by side, with advice in the message."""


@dataclass(frozen=True)
class Pair:
    """Corresponding rows of two studies, one for each seed.

    They differ at most in the seed and in the axes left out.
    """

    first: pd.DataFrame
    second: pd.DataFrame

    @property
    def same_seeds(self) -> bool:
        """Both sides have the same seeds, in the same order."""
        return list(self.first["seed"]) == list(self.second["seed"])


@dataclass(frozen=True)
class Match:
    """Rows of two studies that correspond, and those that do not.

    Attributes:
        pairs: those that correspond.
        differing: axes on which the studies have no value in common, with the values of each.
        alone: rows of the first and of the second study that have no partner, by name.
        ambiguous: rows that could have several partners, by name.
    """

    pairs: Sequence[Pair]
    differing: Mapping[str, tuple[Sequence[str], Sequence[str]]]
    alone: tuple[Sequence[str], Sequence[str]]
    ambiguous: Sequence[str]


def read_results(results: Path, study: str) -> pd.DataFrame:
    """Read the summary that tells most of a study's results as they are.

    It has every column that there is now.

    Args:
        results: the folder of all studies' results.
        study: which.

    Raises:
        CompareError: it has none, or one that speaks of other results than are there.
    """
    partial = f"(longwatt partial --study {study})"
    path, faults = best_summary(results / study)
    if path is None:
        raise CompareError(
            f"{results / study / 'summary.csv'} does not exist: run the study {study} first "
            f"(longwatt run --study {study}), or have its finished cells "
            f"summarised {partial}"
        )
    if faults and faults != [NO_ORIGINS]:
        more = f" and {len(faults) - FAULTS} more" if len(faults) > FAULTS else ""
        raise CompareError(
            f"{path} does not tell the results beside it ({', '.join(faults[:FAULTS])}{more}): run "
            f"the study {study} again, or have its finished cells summarised {partial}"
        )
    return read_summary(path).reindex(columns=list(COLUMNS))


def match(first: pd.DataFrame, second: pd.DataFrame) -> Match:
    """Pair the rows of two summaries by all axes that share any value.

    Where no inference point has its name in both studies, those correspond at which a classifier's
    examples leave by the same rule.

    Raises:
        CompareError: no row has a partner.
    """
    first, second = (pd.concat([table, _points(table)], axis=1) for table in (first, second))
    shared = [
        axis for axis in PAIRED_BY if axis == PAIRED_BY[0] or set(first[axis]) & set(second[axis])
    ]
    other = [axis for axis in PAIRED_BY if axis not in shared]
    differing = {axis: (_values(first, axis), _values(second, axis)) for axis in other}
    keys = shared if "inference" in shared else [*shared, POINT_COLUMN]
    groups = [dict(list(table.groupby(keys, sort=False))) for table in (first, second)]
    both = [key for key in groups[0] if key in groups[1]]
    kinds = {key: [own[key][list(PAIRED_BY)].drop_duplicates() for own in groups] for key in both}
    unclear = {key for key, own in kinds.items() if any(len(different) > 1 for different in own)}
    pairs = [_same_seeds(groups[0][key], groups[1][key]) for key in both if key not in unclear]
    if not pairs:
        raise CompareError(_nothing_in_common(first, second, differing, bool(unclear)))
    doubtful = [{name for key in unclear for name in _names(own[key])} for own in groups]
    paired = [pair.first for pair in pairs], [pair.second for pair in pairs]
    alone = [
        [name for name in _names(table.drop(pd.concat(used).index)) if name not in unsure]
        for table, used, unsure in zip((first, second), paired, doubtful, strict=True)
    ]
    return Match(pairs, differing, (alone[0], alone[1]), sorted(doubtful[0] | doubtful[1]))


def _points(table: pd.DataFrame) -> pd.Series[str]:
    """Return every row's exit rule and batch size as one text, or an empty one."""
    parts = table[list(POINT_SETTINGS)].to_dict("records")
    known = (["" if pd.isna(value) else plain(value) for value in row.values()] for row in parts)
    texts = [" ".join(words).strip() for words in known]
    return pd.Series(texts, table.index, dtype=str, name=POINT_COLUMN)


def _values(table: pd.DataFrame, axis: str) -> list[str]:
    return [str(value) for value in dict.fromkeys(table[axis])]


def _same_seeds(first: pd.DataFrame, second: pd.DataFrame) -> Pair:
    """Pair the rows whose seeds both have, or all where they have none in common."""
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
    sets = "; and ".join(", ".join(_values(table, "dataset")) for table in (first, second))
    return f"the studies have no cell in common (datasets {sets}), whatever axes are left out"


def compare_cells(
    results: Path, studies: Studies, found: Match, scoring: Bootstrap
) -> pd.DataFrame:
    """Return a row for every pair: values of both, differences and ratios.

    An unknown number is missing.

    Args:
        results: the folder of all studies' results, where examples' scores are looked for.
        studies: the two.
        found: which rows correspond.
        scoring: `bootstrap_resamples`, `confidence` and `seed` of the bootstrap.
    """
    return pd.DataFrame([_row(results, studies, pair, scoring) for pair in found.pairs])


def _row(results: Path, studies: Studies, pair: Pair, scoring: Bootstrap) -> dict[str, Any]:
    sides = {"a": pair.first, "b": pair.second}
    row: dict[str, Any] = {f"cell_{side}": " ".join(rows["cell"]) for side, rows in sides.items()}
    for axis in PAIRED_BY:
        row |= {f"{axis}_{side}": rows[axis].iloc[0] for side, rows in sides.items()}
    for side, rows in sides.items():
        low, high = mean_interval(rows)
        own: dict[str, Any] = {
            "score_name": rows["score_name"].iloc[0],
            "score": float(rows["score"].mean(skipna=False)),
            "score_ci_low": low,
            "score_ci_high": high,
            "seeds": len(rows),
            "initialisation": rows["initialisation"].iloc[0],
            "attention": attention_words(rows.iloc[0].to_dict()),
            "diverged": any_diverged(rows),
        }
        if (rows["protocol"] == CLASSIFIED).all():
            own |= {name: float(rows[name].astype(float).mean(skipna=False)) for name in OF_LABELS}
        row |= {f"{name}_{side}": value for name, value in own.items()}
    row |= _difference(results, studies, pair, scoring)
    for name, column in RATIO_COLUMNS.items():
        row |= _ratio(name, column, pair)
    row |= {"ratio_interval": _ratio_interval(pair), **across(pair.first, pair.second)}
    sources = [set(rows["train_energy_source"].dropna()) for rows in sides.values()]
    for side, rows in sides.items():
        row[f"train_energy_flags_{side}"] = flags.joined_flags(flags.union(rows[FLAGS_COLUMN]))
    return {**row, "train_energy_estimated": any("estimate" in source for source in sources)}


def _ratio(name: str, column: str, pair: Pair) -> dict[str, Any]:
    """Return both means and their ratio with its interval.

    They are missing where either is unknown for any seed. Where both have the same seeds, the ratio
    is the geometric mean of the seeds' ratios, which the interval is about.
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
    """Say where the intervals of ratios come from, or why there are none."""
    if len(pair.first) == len(pair.second) == 1:
        return ONE_RUN
    return LOG_SEEDS if pair.same_seeds else NO_SEEDS


def _difference(results: Path, studies: Studies, pair: Pair, scoring: Bootstrap) -> dict[str, Any]:
    """Return the scores' difference, with an interval of the study's confidence or 95 %.

    If one side scored a part of the other's examples, the difference is on that part.
    """
    names = ("score_difference", "difference_ci_low", "difference_ci_high", "difference_interval")
    nothing = [math.nan] * 3
    both = pair.first, pair.second
    if any(rows["score"].isna().any() for rows in both):
        return dict(zip(names, [*nothing, NO_SCORE], strict=True))
    if len({rows["score_name"].iloc[0] for rows in both}) > 1:
        return dict(zip(names, [*nothing, "none: other metrics"], strict=True))
    first, second = (rows["score"].to_numpy(float) for rows in both)
    value = float(second.mean() - first.mean())
    if found := _over_examples(results, studies, pair, scoring):
        ends: tuple[float, float, str] = found.low, found.high, found.method
        value = found.value if found.is_part else value
    elif len(first) > 1 and pair.same_seeds and np.ptp(second - first) > 0:
        ends = *over_seeds(second - first), SEEDS
    else:  # from the two scores' own intervals, as if they were independent
        one, other = ((float(rows["score"].mean()), *mean_interval(rows)) for rows in both)
        ends = *of_difference(other, one), TWO_INTERVALS
    return dict(zip(names, [value, *ends], strict=True))


def differences_within(
    results: Path, studies: Studies, pairs: Sequence[Pair], scoring: Bootstrap
) -> DifferenceWithin:
    """Return a function that pairs the cells of two pairs within one of the studies.

    It takes the numbers of both pairs and the study's place among the two. It returns the score of
    the first pair's cell less that of the second's, or None unless both answered the same examples.
    """
    sides = [[pair.first for pair in pairs], [pair.second for pair in pairs]]

    @cache
    def scores_of(number: int, place: int) -> Scores | None:
        rows = sides[place][number]
        return _scores_of(_examples_of(results / studies[place], rows), rows, scoring)

    def difference(one: int, other: int, place: int) -> PairedEstimate | None:
        first, second = (scores_of(number, place) for number in (one, other))
        if first is None or second is None:
            return None
        seeds = [list(sides[place][number]["seed"]) for number in (one, other)]
        return paired_difference(first, second, seeds[0] == seeds[1])

    return difference


def _over_examples(
    results: Path, studies: Studies, pair: Pair, scoring: Bootstrap
) -> PairedEstimate | None:
    """Pair both cells' scores if one has all examples of the other."""
    tables = pair.first, pair.second
    sides = [_examples_of(results / one, rows) for one, rows in zip(studies, tables, strict=True)]
    first, second = (
        _scores_of(side, rows, scoring) for side, rows in zip(sides, tables, strict=True)
    )
    if first is None or second is None or len(_splits([*sides[0], *sides[1]])) > 1:
        return None
    return paired_difference(second, first, pair.same_seeds)


def _scores_of(
    found: Sequence[ExampleScores | None], rows: pd.DataFrame, scoring: Bootstrap
) -> Scores | None:
    """Gather the headline score of a cell's seeds, None unless all scored the same examples."""
    there = [one for one in found if one]
    if len(there) < len(found) or len(_splits(found)) > 1:
        return None
    name = str(rows["score_name"].iloc[0])
    try:
        samples = [one.sample(name) for one in there]
    except KeyError:  # of another metric than the summary's
        return None
    alike = len({sample.ids for sample in samples}) == 1
    return Scores(samples, Resampling.of(scoring)) if alike else None


def _splits(found: Sequence[ExampleScores | None]) -> set[str]:
    return {one.split for one in found if one and one.split}


def _examples_of(results: Path, rows: pd.DataFrame) -> list[ExampleScores | None]:
    """Read the examples' scores of every seed, None where they are not there."""
    places = zip(rows["cell"], rows["inference"], strict=True)
    paths = [results / cell / "predict" / inference / "examples.csv" for cell, inference in places]
    return [read_examples(path) if path.is_file() else None for path in paths]
