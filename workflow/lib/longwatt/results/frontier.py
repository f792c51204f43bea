"""Find the points that nothing beats in score and cost at once."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from longwatt.metrics.document_samples import documents_of
from longwatt.metrics.resampling import Array, Resampling, percentile_interval
from longwatt.metrics.score_intervals import paired_difference
from longwatt.results.contenders import (
    Contender,
    contenders,
    counts,
    fields,
    point_name,
    seed_noise,
    study_points,
)
from longwatt.study.summary_columns import FRONTIER_COSTS

ON_FRONT, BEATEN, OPEN = "on", "dominated", "undecided"
MOST_NAMED = 2  # points that one is said to be dominated by
SCORE_DIGITS = 9  # in which equal scores agree, however they were added up
SHARE_DIGITS = 4
# Examples or documents from which on an interval is wider than the resamples by less than this.
MANY_UNITS, FARTHER = 50, 1.2


class Place(NamedTuple):
    """A point's place towards the front of one cost.

    Attributes:
        status: on, dominated or undecided; None where its cost is unknown.
        share: of the resamples in which no other point beats it; None of a single example.
        by: names of points that decidedly beat it, those on the front first.
    """

    status: str | None = None
    share: float | None = None
    by: tuple[str, ...] = ()


UNPLACED = Place()


def on_front(scores: Array, costs: Array) -> Array:
    """Find the points that no other beats.

    One beats another that costs no less and scores no more, and is not equal in both.

    Args:
        scores: of the points, the higher the better.
        costs: of the same points.

    Returns:
        True for each point on the front.
    """
    order = np.lexsort((-scores, costs))
    ranked, sorted_costs = scores[order], costs[order]
    best = np.maximum.accumulate(np.concatenate([[-np.inf], ranked]))
    first_of_cost = np.searchsorted(sorted_costs, sorted_costs, side="left")
    free = (ranked > best[first_of_cost]) & (ranked >= ranked[first_of_cost])
    found = np.empty(len(scores), bool)
    found[order] = free
    return found


class _Costs(NamedTuple):
    """One cost of several points.

    Attributes:
        means: over seeds.
        drawn: in every resample (points, resamples).
        varied: whether a point's seeds differ in it.
    """

    means: Array
    drawn: Array
    varied: Array

    @classmethod
    def of(cls, by_seed: Sequence[Sequence[float]], drawn: Array) -> _Costs:
        """Gather the costs of every seed, and as they were drawn."""
        means = np.array([np.mean(values) for values in by_seed])
        return cls(means, drawn, np.array([np.ptp(values) > 0 for values in by_seed]))

    def equal(self, number: int) -> Array:
        """Find the points that cost just what one does."""
        fixed = ~(self.varied | self.varied[number])
        alike: Array = fixed & (self.means == self.means[number])
        return alike

    def no_dearer(self, number: int, sure: float) -> Array:
        """Find the points that cost no more than one, in this share of the resamples."""
        found: Array = self.means <= self.means[number]
        varied = np.flatnonzero(self.varied | self.varied[number])
        found[varied] = (self.drawn[varied] <= self.drawn[number]).mean(axis=1) >= sure
        return found


class Field:
    """Points of the same examples, and which of them decidedly score no less than another.

    Args:
        points: with draws of the same resamples.
        how: these were made.
    """

    def __init__(self, points: Sequence[Contender], how: Resampling) -> None:
        self.points = list(points)
        self.how = how
        self.scores = np.array([point.score for point in points])
        self.draws = np.array([point.draws for point in points]).round(SCORE_DIGITS)
        self._ends: dict[tuple[int, int], float] = {}
        self._likely = [(self.draws >= own).mean(axis=1) >= self._sure for own in self.draws]

    @property
    def _sure(self) -> float:
        """The share of resamples above the lower end of an interval."""
        return (1 + self.how.confidence) / 2

    @property
    def _of_one_example(self) -> bool:
        """True if scores are of one example each, so that resamples tell nothing."""
        return all(one.scores is not None and len(one.scores.ids) == 1 for one in self.points)

    def places(self, cost: str) -> dict[str, Place]:
        """Place every point that knows a cost, by name."""
        there = [place for place, point in enumerate(self.points) if cost in point.costs]
        if not there:
            return {}
        drawn = np.array([self._drawn_cost(place, cost) for place in there])
        share = np.mean(
            [on_front(*both) for both in zip(self.draws[there].T, drawn.T, strict=True)], axis=0
        )
        costs = _Costs.of([self.points[place].costs[cost] for place in there], drawn)
        front = on_front(self.scores[there].round(SCORE_DIGITS), costs.means)
        return {
            self.points[place].name: self._placed(number, there, costs, front, float(share[number]))
            for number, place in enumerate(there)
        }

    def _drawn_cost(self, place: int, cost: str) -> Array:
        """Draw a cost as measured, with the spread of its seeds where there are several."""
        point = self.points[place]
        values = np.asarray(point.costs[cost], float)
        noise = seed_noise(values, self.how, f"{point.name} {cost}")
        same = np.full(len(point.draws), values.mean())
        return same if noise is None else np.clip(same + noise, 0, None)

    def _placed(
        self, number: int, there: Sequence[int], costs: _Costs, front: Array, share: float
    ) -> Place:
        """Place one point among those that know a cost.

        Args:
            number: of the point among them.
            there: their places in the field.
            costs: theirs.
            front: whether each is on the front as measured.
            share: of the resamples in which this one is.
        """
        place, same = there[number], costs.equal(number)
        cheaper = costs.no_dearer(number, self._sure) & self._likely[place][list(there)]
        order = sorted(
            np.flatnonzero(cheaper).tolist(),
            key=lambda one: (not front[one], -self.scores[there[one]]),
        )
        beating = (one for one in order if self._beats(there[one], place, bool(same[one])))
        by = tuple(self.points[there[one]].name for one in itertools.islice(beating, MOST_NAMED))
        if self._of_one_example:  # which every resample repeats
            cheapest = int((costs.means <= costs.means[number]).sum()) == 1
            return Place(BEATEN if by else ON_FRONT if cheapest else OPEN, None, by)
        status = BEATEN if by else ON_FRONT if share >= self.how.confidence else OPEN
        return Place(status, round(share, SHARE_DIGITS), by)

    def _beats(self, one: int, other: int, equal_cost: bool) -> bool:
        """Check whether a point that costs no more decidedly scores no less.

        Where all examples score alike, nothing tells the two apart and the cheaper one wins.
        """
        if one == other:
            return False
        if self._alike(one, other):
            return not equal_cost
        if self._clearly(one, other):
            return True
        low = self.low_end(one, other)
        return low > 0 if equal_cost else low >= 0

    def _alike(self, one: int, other: int) -> bool:
        first, second = (self.points[place].scores for place in (one, other))
        if first is None or second is None:
            return False
        alike = len(first.samples) == len(second.samples) and first.ids == second.ids
        return alike and all(
            np.array_equal(a.values, b.values)
            for a, b in zip(first.samples, second.samples, strict=True)
        )

    def _clearly(self, one: int, other: int) -> bool:
        """Check whether an interval of the difference could only lie above 0.

        It spares most pairs an interval: no resample comes near 0, and enough examples differ that
        the interval of few unlike ones is not in question.
        """
        first, second = (self.points[place].scores for place in (one, other))
        if first is None or second is None or first.values.shape != second.values.shape:
            return False
        units = set(documents_of(first.samples[0]) or first.ids)
        apart = self.draws[one] - self.draws[other]
        value = self.scores[one] - self.scores[other]
        if len(units) < MANY_UNITS or value - FARTHER * (value - apart.min()) <= 0:
            return False
        differences = (first.values - second.values).round(SCORE_DIGITS)
        # What more than half share is the median.
        unlike = (differences != np.median(differences, axis=0)).any(axis=1)
        return int(unlike.sum()) >= MANY_UNITS

    def low_end(self, one: int, other: int) -> float:
        """Return the lower end of the interval of one score less another."""
        if (one, other) not in self._ends:
            self._ends[one, other] = self.interval(one, other)[0]
        return self._ends[one, other]

    def interval(self, one: int, other: int) -> tuple[float, float]:
        """Find the interval of one score less another, paired where examples are known."""
        first, second = self.points[one], self.points[other]
        if first.scores is not None and second.scores is not None:
            found = paired_difference(first.scores, second.scores, False)
            if found is not None:
                return found.ends
        return percentile_interval(first.draws - second.draws, self.how.confidence)


def frontiers(points: Sequence[Contender], how: Resampling) -> dict[str, dict[str, Place]]:
    """Place points of the same examples towards the front of every cost.

    Returns:
        By name and cost. A cost that a point does not know has no place.
    """
    together = Field(points, how)
    by_cost = {cost: together.places(cost) for cost in FRONTIER_COSTS}
    return {
        point.name: {cost: by_cost[cost].get(point.name, UNPLACED) for cost in FRONTIER_COSTS}
        for point in points
    }


def frontier_columns(
    rows: Sequence[Mapping[str, Any]], results: Path, how: Resampling, requests: float
) -> list[dict[str, Any]]:
    """Return the columns on the front of every row of a summary, FRONTIER_COLUMNS.

    All seeds of a point have the same. They are None where a point has no examples, diverged, or
    was beaten in a search.
    """
    found: dict[str, dict[str, Place]] = {}
    for together in fields(study_points(rows, results, how)):
        found |= frontiers(contenders(together, requests), how)
    placed = [found.get(point_name(row), {}) if counts(row) else {} for row in rows]
    return [_columns(places) for places in placed]


def _columns(places: Mapping[str, Place]) -> dict[str, Any]:
    known = {cost: places.get(cost, UNPLACED) for cost in FRONTIER_COSTS}
    return {
        name: value
        for cost, place in known.items()
        for name, value in (
            (f"frontier_{cost}", place.status),
            (f"frontier_{cost}_share", place.share),
            (f"frontier_{cost}_by", " ".join(place.by) or None),
        )
    }
