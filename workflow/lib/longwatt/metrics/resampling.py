"""Resample examples: one bootstrap for scores, their differences and their ratios.

Examples are drawn, not their references: all rows of one example are drawn together. Samples of the
same examples see the same draws, so everything made from several of them is paired.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES_AT_ONCE = 64  # bounds the memory: 64 x examples counts
FEW = 6  # a sign test of five examples that differ from the others decides nothing (p = 0.06)
ROUNDING = 1e-9
FULL_SCORE = 100.0  # scores are between 0 and this
WILSON = "Wilson's interval of a proportion"
BOOTSTRAP = "percentile bootstrap over examples"
PAIRED = "paired bootstrap over examples"
FEW_DIFFER = "widened by what may be unlike examples that are nearly all alike"

Array = NDArray[Any]
Ends = tuple[float, float]


def resampled_sums(values: Array, *, resamples: int, seed: int) -> Array:
    """Sum values (examples, columns) over as many drawn examples to (resamples, columns).

    Columns of one call see the same resamples, so everything made from several of them is paired.
    Equal seeds draw equal examples from equally many, with replacement.
    """
    source, found = np.random.default_rng(seed), []
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        size = (min(RESAMPLES_AT_ONCE, resamples - start), len(values))
        places = source.integers(0, len(values), size) + np.arange(size[0])[:, None] * size[1]
        # How often each resample (rows) has each example (columns).
        counts = np.bincount(places.ravel(), minlength=places.size).reshape(size).astype(float)
        found.append(counts @ values)
    return np.concatenate(found)


def percentile_interval(found: Array, confidence: float) -> Ends:
    """Return the ends between which this share of resampled values lies."""
    tail = 50 * (1 - confidence)
    finite = np.isfinite(found).all()  # nothing lies between a number and infinity
    method: Literal["linear", "inverted_cdf"] = "linear" if finite else "inverted_cdf"
    low, high = np.percentile(found, [tail, 100 - tail], method=method)
    return float(low), float(high)


def wilson(share: float, number: float, confidence: float) -> Ends:
    """Find Wilson's interval of a proportion (1927), wide at 0 and 1 too."""
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    centre = (share + z2 / (2 * number)) / (1 + z2 / number)
    half = math.sqrt(z2 * share * (1 - share) / number + z2**2 / (4 * number**2))
    half /= 1 + z2 / number
    return max(0.0, centre - half), min(1.0, centre + half)


class Interval(NamedTuple):
    """An interval and the method that found it."""

    low: float
    high: float
    method: str

    @property
    def ends(self) -> Ends:
        """The lower and the upper end."""
        return self.low, self.high


class Resampling(NamedTuple):
    """How to find intervals over examples."""

    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Resampling:
        """Read the `scoring` settings of a study."""
        return cls(settings["bootstrap_resamples"], settings["confidence"], settings["seed"])


def geometric_mean(means: Array) -> Array:
    """Return the headline of metrics' means (..., metrics)."""
    found: Array = means.prod(axis=-1) ** (1 / means.shape[-1])
    return found


@dataclass(frozen=True, eq=False)
class Sample:
    """The part that each example of one cell adds to a score.

    Attributes:
        ids: of the examples, sorted, so that equal ones are drawn together in every sample.
        marks: sums over an example's rows, its references that count alone (examples, columns).
        rows: number of rows of each example (examples).
        score: makes scores from mean marks (..., columns).
        values: what each example scores alone, 0 to 100 (examples, metrics).
        groups: the class of each example, if the score is a mean over classes; else None.
    """

    ids: tuple[str, ...]
    marks: Array
    rows: Array
    score: Callable[[Array], Array]
    values: Array
    groups: Array | None = None

    @classmethod
    def of(
        cls,
        examples: Sequence[str],
        values: Array,
        marks: Array | None = None,
        score: Callable[[Array], Array] = geometric_mean,
        groups: Array | None = None,
    ) -> Sample:
        """Gather rows by the example that each belongs to.

        Args:
            examples: the example of each row.
            values: scores of each row, 0 to 100 (rows, metrics).
            marks: of each row; None if they are its values.
            score: makes a score from mean marks.
            groups: the class of each row, which must be the only one of its example.
        """
        ids, places, rows = np.unique(np.asarray(examples), return_inverse=True, return_counts=True)
        sums = []
        for given in (values if marks is None else marks, values):
            sums.append(np.zeros((len(ids), given.shape[1])))
            np.add.at(sums[-1], places, given)
        of_ids = None if groups is None else groups[np.argsort(places)]
        return cls(tuple(map(str, ids)), sums[0], rows, score, sums[1] / rows[:, None], of_ids)

    @property
    def value(self) -> float:
        """The score of all examples."""
        return float(self.score(self.marks.sum(axis=0) / self.rows.sum()))

    def draws(self, resamples: int, seed: int) -> Array:
        """Score every resample of the examples."""
        both = np.column_stack([self.marks, self.rows])
        sums = resampled_sums(both, resamples=resamples, seed=seed)
        return self.score(sums[:, :-1] / sums[:, -1:])

    def metric(self, place: int) -> Sample:
        """Select one of several metrics."""
        return replace(self, marks=self.marks[:, [place]], values=self.values[:, [place]])

    @property
    def is_proportion(self) -> bool:
        """True if the score is a share of examples, each right or wrong."""
        alone = self.groups is None and self.values.shape[1] == 1 and bool((self.rows == 1).all())
        return alone and bool(np.isin(self.values, (0, FULL_SCORE)).all())


@dataclass(frozen=True, eq=False)
class Scores:
    """A score of one cell, the mean over seeds that scored the same examples.

    Attributes:
        samples: one for each seed.
        how: settings for its intervals.
    """

    samples: Sequence[Sample]
    how: Resampling

    @property
    def ids(self) -> tuple[str, ...]:
        """The examples of all seeds."""
        return self.samples[0].ids

    @cached_property
    def by_seed(self) -> Array:
        """The score of every seed."""
        return np.array([sample.value for sample in self.samples])

    @cached_property
    def value(self) -> float:
        """The mean of the seeds' scores."""
        return float(self.by_seed.mean())

    @cached_property
    def draws(self) -> Array:
        """The mean of the seeds' scores in every resample of the examples."""
        drawn = [sample.draws(self.how.resamples, self.how.seed) for sample in self.samples]
        mean: Array = np.mean(drawn, axis=0)
        return mean

    @cached_property
    def values(self) -> Array:
        """The mean over seeds of what each example scores alone (examples, metrics)."""
        mean: Array = np.mean([sample.values for sample in self.samples], axis=0)
        return mean

    def metric(self, place: int) -> Scores:
        """Select one of several metrics."""
        return Scores([sample.metric(place) for sample in self.samples], self.how)


def interval_of(scores: Scores) -> Interval:
    """Find a score's interval over examples: Wilson's of a proportion, else the bootstrap's.

    Where nearly all examples score alike, the bootstrap knows only those. The interval then allows
    for as many unlike examples as are plausible, of any score: the upper end of Wilson's interval
    of their share.
    """
    confidence, only = scores.how.confidence, scores.samples[0]
    if len(scores.samples) == 1 and only.is_proportion:
        low, high = wilson(scores.value / FULL_SCORE, len(only.ids), confidence)
        return Interval(FULL_SCORE * low, FULL_SCORE * high, WILSON)
    ends, wider = percentile_interval(scores.draws, confidence), None
    alone = [scores.metric(place) for place in range(scores.values.shape[1])]
    shares = [_unlike(one.values, one) for one in alone]
    if len(alone) > 1 and any(shares):
        lows, highs = zip(*(interval_of(one).ends for one in alone), strict=True)
        wider = (float(only.score(np.array(lows))), float(only.score(np.array(highs))))
    elif share := shares[0]:
        kept = (1 - share) * scores.value
        wider = kept, kept + FULL_SCORE * share
    return _widened(ends, wider, BOOTSTRAP)


def difference_of(first: Scores, second: Scores) -> Interval:
    """Find the interval of the first score less the second, of the same examples only."""
    _check_same(first, second)
    ends = percentile_interval(first.draws - second.draws, first.how.confidence)
    return _widened(ends, _wider_difference(first, second), PAIRED)


def ratio_of(first: Scores, second: Scores) -> Interval | None:
    """Find the interval of a ratio over the same examples.

    Returns None if some resample has no ratio.
    """
    _check_same(first, second)
    if ((first.draws <= 0) & (second.draws <= 0)).any() or second.value <= 0:
        return None
    with np.errstate(divide="ignore"):
        ends = percentile_interval(first.draws / second.draws, first.how.confidence)
    wider = _wider_difference(first, second)
    if wider:
        low, high = ((second.value + end) / second.value for end in wider)
        wider = max(0.0, low), high
    return _widened(ends, wider, PAIRED)


def _wider_difference(first: Scores, second: Scores) -> Ends | None:
    """Bound a difference where nearly all examples differ alike, else return None."""
    value = first.value - second.value
    alike = np.array_equal(first.samples[0].rows, second.samples[0].rows)
    paired = first.values.shape == second.values.shape and alike
    if paired and (share := _unlike(first.values - second.values, first)):
        return (1 - share) * value - FULL_SCORE * share, (1 - share) * value + FULL_SCORE * share
    if np.ptp(first.draws - second.draws) > ROUNDING:
        return None
    # A mean of 0 in one metric makes every headline 0, whatever the examples are.
    ends, others = interval_of(first), interval_of(second)
    half = math.hypot(first.value - ends.low, others.high - second.value)
    return value - half, value + math.hypot(ends.high - first.value, second.value - others.low)


def _unlike(values: Array, scores: Scores) -> float | None:
    return unlike_share(values, scores.how.confidence, scores.samples[0].groups)


def unlike_share(values: Array, confidence: float, groups: Array | None = None) -> float | None:
    """Bound the share of examples unlike nearly all others, or None if many differ.

    Args:
        values: what is known of each example (examples, columns).
        confidence: between 0 and 1.
        groups: the class of each example, if classes count alike; None for one group.
    """
    _, places, counts = np.unique(values.round(9), axis=0, return_inverse=True, return_counts=True)
    differ = places.ravel() != counts.argmax()
    if differ.sum() >= FEW or 2 * differ.sum() >= len(values):
        return None
    groups = np.zeros(len(values), int) if groups is None else groups
    shares = [
        wilson(differ[groups == group].mean(), (groups == group).sum(), confidence)[1]
        for group in np.unique(groups)
    ]
    return float(np.mean(shares))


def _widened(ends: Ends, wider: Ends | None, method: str) -> Interval:
    if wider is None:
        return Interval(*ends, method)
    low, high = min(ends[0], wider[0]), max(ends[1], wider[1])
    return Interval(low, high, f"{method}, {FEW_DIFFER}")


def _check_same(first: Scores, second: Scores) -> None:
    if first.ids != second.ids or first.how != second.how:
        raise ValueError("only scores of the same examples can be paired")
