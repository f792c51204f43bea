"""What claims compare example by example: scores of cells that scored the same examples, and baselines.

One seed gives an interval over examples. Several give one over seeds and examples together: half
widths add as squares, as for a difference of independent numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from longwatt.columns import OF_EXAMPLES
from longwatt.example_scores import ExampleScores, read_examples
from longwatt.intervals import over_seeds
from longwatt.metrics.resampling import (
    Interval,
    Resampling,
    Sample,
    Scores,
    difference_of,
    interval_of,
    ratio_of,
)  # fmt: skip

OVER_SEEDS = "Student's t over seeds"
# Scores are written with four decimals; a headline made of three rounded ones is off by little more.
ROUNDED = 0.01

Row = Mapping[str, Any]
Halves = tuple[float, float]


class ClaimScores:
    """Every example's scores behind the rows of a summary, read when they are first asked for.

    Args:
        results: results/{study}; None where there are none.
        scoring: the study's `bootstrap_resamples`, `confidence` and `seed`.
        splits: whose examples were scored, by cell and inference point.
    """

    def __init__(
        self,
        results: Path | None,
        scoring: Mapping[str, Any],
        splits: Mapping[tuple[str, str], str | None],
    ) -> None:
        self._results = results
        self._how = Resampling.of(scoring)
        self._splits = splits
        self._read: dict[tuple[str, str], ExampleScores | None] = {}
        self._found: dict[tuple[Any, ...], Scores | None] = {}

    def of(self, rows: Sequence[Row], column: str) -> Scores | None:
        """Gather a column's samples by seed.

        Args:
            rows: of a summary, one for each seed.
            column: of it.

        Returns:
            None unless the examples of all seeds are there, the same, and those that the rows speak of.
        """
        if self._results is None or column not in OF_EXAMPLES:
            return None
        key = (column, *((row["cell"], row["inference"]) for row in rows))
        if key not in self._found:
            self._found[key] = self._gather(rows, column)
        return self._found[key]

    def same(self, first: Sequence[Row], second: Sequence[Row]) -> bool:
        """Whether rows are about one split of one dataset; their examples' ids alone do not say so."""
        of = {(row["dataset"], self._splits.get((row["cell"], row["inference"]))) for row in (*first, *second)}
        return len(of) == 1

    def _gather(self, rows: Sequence[Row], column: str) -> Scores | None:
        found = [self._sample(row, column) for row in sorted(rows, key=lambda row: row["seed"])]
        samples = [sample for sample in found if sample is not None]
        whole = bool(samples) and len(samples) == len(found) and self.same(rows, ())
        if not whole or len({sample.ids for sample in samples}) > 1:
            return None
        return Scores(samples, self._how)

    def _sample(self, row: Row, column: str) -> Sample | None:
        key = (row["cell"], row["inference"])
        if key not in self._read:
            assert self._results is not None
            path = self._results / key[0] / "predict" / key[1] / "examples.csv"
            self._read[key] = read_examples(path) if path.is_file() else None
        examples = self._read[key]
        try:
            sample = examples and examples.sample(column, str(row["score_name"]))
        except KeyError:  # scored before its examples had baselines
            return None
        return sample if sample and abs(sample.value - float(row[column])) < ROUNDED else None


def mean_of(scores: Scores) -> Interval:
    """The interval of a score, over seeds too where there are several."""
    return _with_seeds(scores.value, interval_of(scores), _halves(scores.by_seed, scores.how))


def paired_difference(first: Scores, second: Scores, paired_seeds: bool) -> Interval:
    """The interval of the first score less the second, both of the same examples.

    Args:
        first: by seed.
        second: by seed.
        paired_seeds: whether both have the same seeds.
    """
    sides = first.by_seed, second.by_seed
    return _with_seeds(
        first.value - second.value, difference_of(first, second), _seeds_of_pair(*sides, first.how, paired_seeds)
    )


def paired_ratio(first: Scores, second: Scores, paired_seeds: bool) -> Interval | None:
    """The interval of the first score by the second, as a difference of logarithms; None where one may be 0."""
    found = ratio_of(first, second)
    if found is None or min(*first.by_seed, *second.by_seed) <= 0:
        return None
    low, high = (math.log(end) if end > 0 else -math.inf for end in found.ends)
    logs = Interval(low, high, found.method)
    sides = np.log(first.by_seed), np.log(second.by_seed)
    value = math.log(first.value) - math.log(second.value)
    low, high, method = _with_seeds(value, logs, _seeds_of_pair(*sides, first.how, paired_seeds))
    return Interval(math.exp(low), math.exp(high), method)


def _seeds_of_pair(first: Any, second: Any, how: Resampling, paired: bool) -> Halves | None:
    """How far seeds make a difference reach either way; None where both sides have one."""
    if paired:
        return _halves(first - second, how)
    own, other = _halves(first, how), _halves(second, how)
    if own is None or other is None:
        return own or other
    return math.hypot(own[0], other[1]), math.hypot(own[1], other[0])


def _halves(by_seed: Any, how: Resampling) -> Halves | None:
    """How far the interval over seeds reaches below and above their mean; None of one seed."""
    if len(by_seed) < 2:
        return None
    low, high = over_seeds(by_seed, how.confidence)
    mean = float(np.mean(by_seed))
    return mean - low, high - mean


def _with_seeds(value: float, examples: Interval, seeds: Halves | None) -> Interval:
    """An interval over examples, widened by that over seeds."""
    if seeds is None:
        return examples
    low, high = (
        math.hypot(max(0.0, reach), half)
        for reach, half in zip((value - examples.low, examples.high - value), seeds, strict=True)
    )
    return Interval(value - low, value + high, f"{OVER_SEEDS} and {examples.method}, added as squares")
