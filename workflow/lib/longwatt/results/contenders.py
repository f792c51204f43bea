"""Gather the points of a study that compete: a cell's seeds together, by inference point."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from longwatt.jobs.endings import diverged
from longwatt.layout.wording import is_known
from longwatt.metrics.document_samples import DocumentSample, drawn_alike
from longwatt.metrics.resampling import (
    FULL_SCORE,
    Array,
    Resampling,
    Sample,
    Scores,
    resampled_sums,
)
from longwatt.results.example_scores import read_examples
from longwatt.results.life_cycle import (
    CostParts,
    cost_parts,
    costs_by_seed,
    priced_parts,
    trained_together,
)

# What a cell's seeds and inference point share, and the name of a point.
NAME_AXES = ("dataset", "model", "seq_len", "budget", "protocol", "inference")
POINT_PATTERN = "/".join(f"{{{axis}}}" for axis in NAME_AXES)
ROUNDED_SCORE = 0.01  # scores of examples are written with four decimals

RowOfPoint = Mapping[str, Any]


@dataclass(frozen=True)
class Contender:
    """A point that competes with others of the same examples.

    Attributes:
        name: by which it is told apart.
        score: the mean over its seeds, 0 to 100.
        draws: its score in each resample of the examples, the seeds' spread included. Points of
            one field share the resamples.
        costs: those of every seed by name, without those that a seed does not know.
        scores: of the examples, None where only the whole score is known.
    """

    name: str
    score: float
    draws: Array
    costs: Mapping[str, Sequence[float]] = field(default_factory=dict)
    scores: Scores | None = None


@dataclass(frozen=True)
class StudyPoint:
    """A cell without its seed, at one inference point, with the rows of its seeds.

    Attributes:
        name: its axes as POINT_PATTERN.
        rows: of the summary, in the order of the seeds, those of cascades with both trainings.
        scores: of the examples; None where they are not there or differ between seeds.
        split: that was predicted; None if unknown.
        parts: the costs of every seed.
    """

    name: str
    rows: Sequence[RowOfPoint]
    scores: Scores | None
    split: str | None
    parts: Sequence[CostParts]

    @property
    def competes(self) -> bool:
        """False for a diverged training, whose costs and scores are not a whole one's."""
        return not any(map(diverged, self.rows))

    @cached_property
    def field(self) -> tuple[Any, ...] | None:
        """A key that points share which may be compared, None for one without examples."""
        if self.scores is None:
            return None
        row = self.rows[0]
        return row["dataset"], row["score_name"], self.split, self.scores.ids


def model_of(row: RowOfPoint) -> str:
    """Name the model of a row, or the entry that a search made it from."""
    origin = row.get("variant_of")
    return str(origin) if is_known(origin) else str(row.get("model"))


def point_name(row: RowOfPoint) -> str:
    """Name the point of a row: its cell without the seed, and its inference point."""
    return POINT_PATTERN.format(**{axis: row.get(axis) for axis in NAME_AXES} | {
        "model": model_of(row)
    })  # fmt: skip


def counts(row: RowOfPoint) -> bool:
    """Check whether a row has a score and was not beaten in a search."""
    beaten = row.get("selected") in (False, "False")
    return not beaten and is_known(row.get("score"))


def study_points(rows: Sequence[RowOfPoint], results: Path, how: Resampling) -> list[StudyPoint]:
    """Gather the rows of a summary by point, with every example's scores.

    Args:
        rows: of a summary. Cells that were beaten in a search are left out.
        results: results/{study}.
        how: to resample examples.
    """
    by_name: dict[str, list[RowOfPoint]] = {}
    for row in filter(counts, rows):
        by_name.setdefault(point_name(row), []).append(row)
    priced, both, found = priced_parts(rows), trained_together(rows), []
    for name, own in by_name.items():
        ordered = [both(row) for row in sorted(own, key=lambda row: str(row.get("seed")))]
        scores, split = _scores(ordered, results, how)
        parts = [cost_parts(row, priced) for row in ordered]
        found.append(StudyPoint(name, ordered, scores, split, parts))
    return found


def fields(points: Iterable[StudyPoint]) -> list[list[StudyPoint]]:
    """Group the points that may be compared: of one dataset, split, metric and examples."""
    found: dict[tuple[Any, ...], list[StudyPoint]] = {}
    for point in points:
        if point.field is not None and point.competes:
            found.setdefault(point.field, []).append(point)
    return list(found.values())


def contenders(points: Sequence[StudyPoint], requests: float) -> list[Contender]:
    """Draw the same resamples of the examples for all points of one field."""
    many = drawn_together([point.scores for point in points if point.scores is not None])
    return [
        contender_of(point.name, scores, point.parts, requests)
        for point, scores in zip(points, many, strict=True)
    ]


def contender_of(
    name: str, scores: Scores, parts: Sequence[CostParts], requests: float
) -> Contender:
    """Make a contender of a point whose scores have their resamples."""
    draws = with_seeds(scores.draws, scores.by_seed, scores.how, name)
    return Contender(name, scores.value, draws, costs_by_seed(parts, requests), scores)


def drawn_together(many: Sequence[Scores]) -> list[Scores]:
    """Draw the resamples of many scores of the same examples in one pass.

    They equal `Scores.draws`, which draws for each score anew.
    """
    alike = drawn_alike(many) if many else []
    if not alike:
        return []
    how, columns, places, start = alike[0].how, [], [], 0
    for sample in (sample for scores in alike for sample in scores.samples):
        summed = np.column_stack([sample.marks, sample.rows])
        if isinstance(sample, DocumentSample) and sample.count > 1:
            summed = sample.by_document(summed)
        columns.append(summed)
        places.append(slice(start, start := start + summed.shape[1]))
    sums = resampled_sums(np.hstack(columns), resamples=how.resamples, seed=how.seed)
    drawn = iter(places)
    for scores in alike:
        own = [_scored(sample, sums[:, next(drawn)]) for sample in scores.samples]
        vars(scores)["draws"] = np.mean(own, axis=0)  # fills the cached property
    return alike


def _scored(sample: Sample, sums: Array) -> Array:
    return sample.score(sums[:, :-1] / sums[:, -1:])


def with_seeds(draws: Array, by_seed: Sequence[float] | Array, how: Resampling, name: str) -> Array:
    """Add the spread of several seeds to resampled scores, as Student's t of their mean."""
    noise = seed_noise(by_seed, how, name)
    return draws if noise is None else np.clip(draws + noise, 0, FULL_SCORE)


def seed_noise(by_seed: Sequence[float] | Array, how: Resampling, name: str) -> Array | None:
    """Draw how far other seeds' mean would lie from this, None for one seed.

    A name draws the same whatever stands beside it.
    """
    values = np.asarray(by_seed, float)
    if len(values) < 2:
        return None
    source = np.random.default_rng([how.seed, zlib.crc32(name.encode())])
    error = values.std(ddof=1) / np.sqrt(len(values))
    noise: Array = error * source.standard_t(len(values) - 1, how.resamples)
    return noise


def _scores(
    rows: Sequence[RowOfPoint], results: Path, how: Resampling
) -> tuple[Scores | None, str | None]:
    """Read the examples of a point's seeds, None unless all have the same."""
    samples, splits = [], set()
    for row in rows:
        path = results / row["cell"] / "predict" / row["inference"] / "examples.csv"
        if not path.is_file():
            return None, None
        examples = read_examples(path)
        splits.add(examples.split)
        try:
            sample = examples.sample("score", str(row["score_name"]))
        except KeyError:  # of another metric than the summary's
            return None, None
        if abs(sample.value - float(row["score"])) >= ROUNDED_SCORE:
            return None, None
        samples.append(sample)
    if len(splits) > 1 or len({sample.ids for sample in samples}) > 1:
        return None, None
    return Scores(samples, how), splits.pop()


def normal_draws(score: float, error: float, how: Resampling, name: str) -> Array:
    """Draw a score of which only its standard error is known, as a normal one.

    A name draws the same whatever stands beside it.
    """
    source = np.random.default_rng([how.seed, zlib.crc32(name.encode())])
    found: Array = np.clip(source.normal(score, error, how.resamples), 0, FULL_SCORE)
    return found
