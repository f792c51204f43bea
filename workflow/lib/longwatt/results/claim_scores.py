"""Read every example's scores behind the rows that claims compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longwatt.metrics.resampling import Resampling, Sample, Scores
from longwatt.results.example_scores import ExampleScores, read_examples
from longwatt.study.summary_columns import OF_EXAMPLES

# Scores are written with four decimals; a headline made of three rounded ones is off by little
# more.
ROUNDED = 0.01

ScoredRow = Mapping[str, Any]


class ClaimScores:
    """Reads every example's scores behind a summary's rows when they are first asked for.

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

    def of(self, rows: Sequence[ScoredRow], column: str) -> Scores | None:
        """Return a column's scores of the examples, one sample for each seed.

        Args:
            rows: of a summary, one for each seed.
            column: of it.

        Returns:
            None unless the examples of all seeds are there, the same, and those that the rows speak
            of.
        """
        if self._results is None or column not in OF_EXAMPLES:
            return None
        key = (column, *((row["cell"], row["inference"]) for row in rows))
        if key not in self._found:
            self._found[key] = self._gather(rows, column)
        return self._found[key]

    def same(self, rows: Sequence[ScoredRow]) -> bool:
        """Check whether rows are of one split of one dataset, unlike their ids."""
        splits = (self._splits.get((row["cell"], row["inference"])) for row in rows)
        return len(set(zip((row["dataset"] for row in rows), splits, strict=True))) == 1

    def _gather(self, rows: Sequence[ScoredRow], column: str) -> Scores | None:
        found = [self._sample(row, column) for row in sorted(rows, key=lambda row: row["seed"])]
        samples = [sample for sample in found if sample is not None]
        whole = bool(samples) and len(samples) == len(found) and self.same(rows)
        if not whole or len({sample.ids for sample in samples}) > 1:
            return None
        return Scores(samples, self._how)

    def _sample(self, row: ScoredRow, column: str) -> Sample | None:
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
