"""Points to choose among: a cell with all its seeds, at one inference point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from longwatt.metrics.document_samples import documents_of, restricted_to
from longwatt.metrics.resampling import FULL_SCORE, Array, Resampling, Scores, wilson
from longwatt.metrics.score_intervals import mean_of_scores
from longwatt.metrics.seed_intervals import NORMAL_95
from longwatt.results.contenders import Contender, contender_of, drawn_together, normal_draws
from longwatt.results.life_cycle import CostParts, costs_by_seed

PointTitles = Mapping[str, str]
CONFIDENCE_95 = 0.95  # of NORMAL_95


@dataclass(frozen=True)
class AnswerPoint:
    """A cell without its seed, at one inference point.

    Attributes:
        id: its axes, as `longwatt.results.contenders.POINT_PATTERN`.
        dataset: its name, and so on for the other axes.
        model: the entry of the study, the origin where a search chose it.
        seq_len: tokens; None where an imported result does not say.
        budget: what it was trained on.
        protocol: how answers are made.
        inference: the inference point.
        seeds: of its trainings.
        cells: their names.
        score: the mean over seeds, 0 to 100.
        low: lower end of its interval; None if unknown.
        high: upper end.
        score_name: the metric.
        split: that was predicted; None if unknown.
        parts: the costs of every seed.
        scores: of the examples; None where they are not known.
        examples: their number; None if unknown.
        random_weights: whether it was trained from random weights.
        diverged: whether a training diverged.
        imported: whether another program made it.
        energy_source: measured, estimate, or None if unknown.
        energy_flags: caveats of its energies.
        energy_bases: what its estimates rest on, empty where nothing is estimated.
        device: that inference ran on.
        exit_rule: by which examples leave early; None for a whole model.
        lead: score of the document's first words, or the majority class; None if unknown.
        ceiling: best expected score at its length; None if unknown.
    """

    id: str
    dataset: str
    model: str
    score: float
    score_name: str
    parts: Sequence[CostParts]
    seq_len: int | None = None
    budget: str = ""
    protocol: str = ""
    inference: str = ""
    seeds: tuple[Any, ...] = ()
    cells: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    split: str | None = None
    scores: Scores | None = None
    examples: int | None = None
    random_weights: bool = False
    diverged: bool = False
    imported: bool = False
    energy_source: str | None = None
    energy_flags: tuple[str, ...] = ()
    energy_bases: tuple[str, ...] = ()
    device: str | None = None
    exit_rule: str | None = None
    lead: float | None = None
    ceiling: float | None = None

    @cached_property
    def mean_parts(self) -> CostParts:
        """The costs of a training and of a request, means over seeds."""
        return CostParts(**{part.name: self._mean(part.name) for part in fields(CostParts)})

    def _mean(self, name: str) -> float | None:
        values = [getattr(parts, name) for parts in self.parts]
        return None if None in values or not values else float(np.mean(values))

    def costs(self, requests: float) -> dict[str, float | None]:
        """Return its costs by name, of so many requests (`CostParts.costs`)."""
        return self.mean_parts.costs(requests)

    @property
    def field(self) -> tuple[Any, ...]:
        """A key that points share which may be compared."""
        ids = None if self.scores is None else self.scores.ids
        return self.dataset, self.score_name, self.split, ids

    @property
    def documents(self) -> list[str]:
        """The document of each example or the example itself, none where unknown."""
        if self.scores is None:
            return []
        numbers = documents_of(self.scores.samples[0])
        return list(map(str, self.scores.ids if numbers is None else numbers))

    def on_part(self, ids: Sequence[str]) -> AnswerPoint:
        """Return the point with its score on some of its examples, with the interval there."""
        if self.scores is None:
            return self
        part = Scores([restricted_to(one, ids) for one in self.scores.samples], self.scores.how)
        low, high = mean_of_scores(part).ends
        return replace(
            self, scores=part, score=part.value, low=low, high=high, examples=len(part.ids)
        )

    @property
    def error(self) -> float | None:
        """Standard error of an imported score, None where the file says too little.

        A score between 0 and 100 of n examples varies at most as if each were one of both. Near the
        ends of the scale that is too little, and Wilson's interval counts.
        """
        if self.low is not None and self.high is not None:
            return (self.high - self.low) / (2 * NORMAL_95)
        if not self.examples:
            return None
        share = self.score / FULL_SCORE
        low, high = wilson(share, self.examples, CONFIDENCE_95)
        spread = np.sqrt(share * (1 - share) / self.examples)
        return float(FULL_SCORE * max(spread, (high - low) / (2 * NORMAL_95)))


def as_contenders(
    points: Sequence[AnswerPoint], how: Resampling, requests: float
) -> list[Contender]:
    """Draw the same resamples for points of one field, normal ones without examples.

    Args:
        points: all with examples, or none.
        how: to resample.
        requests: that the life-cycle costs are of.
    """
    many = drawn_together([point.scores for point in points if point.scores is not None])
    if len(many) < len(points):
        return [_imported(point, how, requests) for point in points]
    return [
        contender_of(point.id, scores, point.parts, requests)
        for point, scores in zip(points, many, strict=True)
    ]


def _imported(point: AnswerPoint, how: Resampling, requests: float) -> Contender:
    draws: Array = normal_draws(point.score, point.error or 0.0, how, point.id)
    return Contender(point.id, point.score, draws, costs_by_seed(point.parts, requests))


def fields_of(points: Sequence[AnswerPoint]) -> list[list[AnswerPoint]]:
    """Group the points that may be compared, without diverged ones."""
    found: dict[tuple[Any, ...], list[AnswerPoint]] = {}
    for point in points:
        if not point.diverged and (point.scores is not None or point.imported):
            found.setdefault(point.field, []).append(point)
    return list(found.values())


def main_fields(points: Sequence[AnswerPoint]) -> dict[str, list[AnswerPoint]]:
    """Choose the field of each dataset that a choice is made in.

    It is that with most points. Among equals the test split comes first, which nothing was chosen
    on before.
    """
    by_dataset: dict[str, list[list[AnswerPoint]]] = {}
    for field in fields_of(points):
        by_dataset.setdefault(field[0].dataset, []).append(field)
    return {
        name: max(found, key=lambda field: (len(field), field[0].split == "test"))
        for name, found in by_dataset.items()
    }


# Axes behind a model's name, where points of a dataset differ in them.
TOLD_BY = ("budget", "protocol", "inference")


def point_titles(points: Sequence[AnswerPoint], titles: PointTitles) -> dict[str, str]:
    """Name points by their model and length, and by what else tells them apart."""
    found = {}
    for point in points:
        beside = [one for one in points if one.dataset == point.dataset]
        words = [titles.get(point.model, point.model)]
        words += [f"{point.seq_len} tokens"] if point.seq_len is not None else []
        for axis in TOLD_BY:
            if len({getattr(one, axis) for one in beside}) > 1:
                value = getattr(point, axis)
                words.append(titles.get(value, value) if axis == "budget" else value)
        found[point.id] = ", ".join(filter(None, words))
    return found
