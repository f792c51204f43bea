"""Find intervals of scores over examples and, for several seeds, over seeds too.

One seed gives an interval over examples. Several seeds give one over seeds and examples together:
half widths add as squares, as for a difference of independent numbers. Where examples share
documents, documents take the examples' place throughout.

`paired_difference` is the one function that compares two scores. Claims, the comparison of two
studies and all that ranks cells call it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from longwatt.metrics import resampling
from longwatt.metrics.document_samples import DocumentSample, drawn_alike, part_of, sizes_drawn
from longwatt.metrics.resampling import (
    FULL_SCORE,
    WILSON,
    Array,
    Ends,
    Interval,
    Resampling,
    Scores,
)
from longwatt.metrics.seed_intervals import of_a_score, over_seeds, students_t

OVER_SEEDS = "Student's t over seeds"
FEW_UNITS = 10  # of fewer examples or documents an interval says that it is widened
ONE_DOCUMENT = "of one document, so that nothing is known of others"

Halves = tuple[float, float]  # how far an interval reaches below and above its number


class PairedEstimate(NamedTuple):
    """A difference or a ratio of two scores on the same examples, with its interval.

    Attributes:
        value: made of the scores in `sides`.
        low: lower end of the interval.
        high: upper end of the interval.
        method: that found the interval, in words.
        sides: both scores, over the examples that both have.
        is_part: whether one side has more examples than these.
    """

    value: float
    low: float
    high: float
    method: str
    sides: tuple[float, float]
    is_part: bool

    @property
    def ends(self) -> Ends:
        """The lower and the upper end."""
        return self.low, self.high


def at_confidence(scores: Scores, confidence: float | None) -> Scores:
    """Have a score's intervals made at another confidence, None for its own."""
    if confidence is None or confidence == scores.how.confidence:
        return scores
    found = Scores(scores.samples, scores.how._replace(confidence=confidence))
    vars(found)["draws"] = scores.draws  # which no confidence changes
    return found


def mean_of_scores(scores: Scores) -> Interval:
    """Find the interval of a score, over seeds too if there are several."""
    seeds = _halves(scores.by_seed, scores.how)
    low, high, method = _with_seeds(scores.value, over_examples(scores), seeds)
    return Interval(*of_a_score(low, high), method)


def over_examples(scores: Scores) -> Interval:
    """Find the interval of a score over examples, or over the documents that they share."""
    found = resampling.interval_of(scores)
    if found.method == WILSON:
        return found
    low, high, method = _widened(scores.value, found, scores, _unlike_documents(scores))
    return Interval(*of_a_score(low, high), method)


def paired_difference(
    first: Scores, second: Scores, same_seeds: bool, confidence: float | None = None
) -> PairedEstimate | None:
    """Find the first score less the second on the same examples, with its interval.

    Both are read off the same resamples. Documents are drawn where examples share some. If one
    side scored a part of the other's examples (`max_examples`), both count on that part alone: the
    rest adds luck of its own and no evidence.

    Args:
        first: one cell's score, of all its seeds.
        second: the other's, of the same split of the same dataset (ids do not tell splits apart).
        same_seeds: whether both have the same seeds in the same order, whose differences count
            then. Else seeds count as independent.
        confidence: of the interval; that of the scores unless given.

    Returns:
        None unless one side has all examples of the other.

    Raises:
        ValueError: they are resampled otherwise.
    """
    both = _on_common(first, second, confidence)
    if both is None:
        return None
    one, other = both
    value = one.value - other.value
    found = resampling.difference_of(one, other)
    examples = _widened(value, found, one, _unlike_documents(one, other))
    seeds = _seeds_of_pair(one.by_seed, other.by_seed, one.how, same_seeds)
    return _estimate(value, _with_seeds(value, examples, seeds), both, first.ids != second.ids)


def paired_ratio(
    first: Scores, second: Scores, same_seeds: bool, confidence: float | None = None
) -> PairedEstimate | None:
    """Find a ratio's interval by logarithms, as `paired_difference` finds a difference's.

    Returns:
        None also if a score may be 0.
    """
    both = _on_common(first, second, confidence)
    found = both and resampling.ratio_of(*both)
    if both is None or found is None or min(*both[0].by_seed, *both[1].by_seed) <= 0:
        return None
    one, other = both
    value, unlike = math.log(one.value / other.value), _unlike_documents(one, other)
    wider = unlike and (_log(1 + unlike[0] / other.value), _log(1 + unlike[1] / other.value))
    logs = Interval(_log(found.low), _log(found.high), found.method)
    by_seed = np.log(one.by_seed), np.log(other.by_seed)
    seeds = _seeds_of_pair(*by_seed, one.how, same_seeds)
    low, high, method = _with_seeds(value, _widened(value, logs, one, wider), seeds)
    ends = Interval(math.exp(low), math.exp(high), method)
    return _estimate(one.value / other.value, ends, both, first.ids != second.ids)


def _estimate(
    value: float, found: Interval, both: tuple[Scores, Scores], is_part: bool
) -> PairedEstimate:
    low, high, method = found
    words = f"{method}, on the {len(both[0].ids)} examples that both answered"
    sides = both[0].value, both[1].value
    return PairedEstimate(value, low, high, words if is_part else method, sides, is_part)


def _on_common(
    first: Scores, second: Scores, confidence: float | None
) -> tuple[Scores, Scores] | None:
    """Cut two scores to the examples of both, None unless one side has all of the other's."""
    common = min(first.ids, second.ids, key=len)
    sides = [at_confidence(scores, confidence) for scores in (first, second)]
    if first.ids != second.ids:
        if not set(common) <= set(first.ids) & set(second.ids):
            return None
        parts = [[part_of(sample, common) for sample in side.samples] for side in sides]
        sides = [Scores(part, side.how) for part, side in zip(parts, sides, strict=True)]
    one, other = drawn_alike(sides)
    return one, other


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _unlike_documents(first: Scores, second: Scores | None = None) -> Ends | None:
    """Bound a score, or a difference, where nearly all documents are alike, else return None.

    `longwatt.metrics.resampling` does so for examples, of which it knows no documents.
    """
    sample, other = first.samples[0], 0.0 if second is None else second.values
    if not isinstance(sample, DocumentSample) or np.shape(other) not in ((), first.values.shape):
        return None
    share = resampling.unlike_share(
        sample.means_of_documents(first.values - other), first.how.confidence
    )
    if share is None:
        return None
    kept = (1 - share) * (first.value - (0.0 if second is None else second.value))
    return kept - (0 if second is None else FULL_SCORE * share), kept + FULL_SCORE * share


def _widened(value: float, found: Interval, scores: Scores, wider: Ends | None) -> Interval:
    """Widen a bootstrap's interval as few examples or documents need it, and say so.

    Resampled values spread too little, by the square root of n / (n - 1), and the normal's tails
    that percentiles resemble are too thin by Student's t of n - 1 (Hesterberg, 2015, The American
    Statistician 69, section 4). It is n = (sum of sizes)^2 / (sum of squared sizes) that counts,
    which is less than the number where some are larger than others.
    """
    sizes, words = _sizes(scores)
    factor = small_sample_factor(sizes, scores.how)
    if resampling.FEW_DIFFER in found.method and not isinstance(scores.samples[0], DocumentSample):
        factor = 1.0  # ends by Wilson's interval, which holds for few examples
    low, high = wider_ends(value, found.ends, factor)
    if wider:
        low, high = min(low, wider[0]), max(high, wider[1])
    method = found.method.replace("over examples", f"over {words}")
    return Interval(low, high, method)


def _sizes(scores: Scores) -> tuple[Array, str]:
    """Return the size of each example or document that is drawn, and what they are in words."""
    sample = scores.samples[0]
    sizes, words = sizes_drawn(sample), "examples"
    if isinstance(sample, DocumentSample):
        words = f"{sample.count} documents" if sample.count > 1 else f"examples {ONE_DOCUMENT}"
    elif len(sizes) < FEW_UNITS:
        words = f"{len(sizes)} examples"
    few = independent_units(sizes) < FEW_UNITS
    return sizes, f"{words} (widened, since they are few)" if few else words


def independent_units(sizes: Sequence[float] | Array) -> float:
    """Count units of equal size that would say as much as these."""
    known = np.asarray(sizes, float)
    return float(known.sum() ** 2 / (known**2).sum())


def small_sample_factor(sizes: Sequence[float] | Array, how: Resampling) -> float:
    """Return the factor by which a bootstrap's half widths are too narrow.

    Args:
        sizes: of the examples or documents that are drawn.
        how: they are drawn. Percentiles of few resamples lie a little too far inside as well.
    """
    units = math.floor(independent_units(sizes) + resampling.ROUNDING)
    if units < 2:  # nothing varies, and what is unlike is allowed for apart
        return 1.0
    # Beyond an end of B resamples lies a little more than is meant: (1 + tail (B - 1)) / (B + 1).
    tail = (1 + (1 - how.confidence) / 2 * (how.resamples - 1)) / (how.resamples + 1)
    wanted = _students_t(how.confidence, units - 1) * math.sqrt(units / (units - 1))
    return wanted / -NormalDist().inv_cdf(tail)


def wider_ends(value: float, ends: Ends, factor: float) -> Ends:
    """Move the ends of an interval away from its number by a factor, 1 or more."""
    if factor == 1:  # ends may be infinite
        return ends
    low, high = ends
    more = factor - 1
    return low - more * max(0.0, value - low), high + more * max(0.0, high - value)


@cache
def _students_t(confidence: float, freedom: int) -> float:
    return students_t(confidence, freedom)


def _seeds_of_pair(first: Any, second: Any, how: Resampling, paired: bool) -> Halves | None:
    """Find how far seeds make a difference reach, or None if both sides have one."""
    if paired:
        return _halves(first - second, how)
    own, other = _halves(first, how), _halves(second, how)
    if own is None or other is None:
        return own or other
    return math.hypot(own[0], other[1]), math.hypot(own[1], other[0])


def _halves(by_seed: Any, how: Resampling) -> Halves | None:
    """Find how far an interval over seeds reaches either way, or None for one seed."""
    if len(by_seed) < 2:
        return None
    low, high = over_seeds(by_seed, how.confidence)
    mean = float(np.mean(by_seed))
    return mean - low, high - mean


def _with_seeds(value: float, examples: Interval, seeds: Halves | None) -> Interval:
    if seeds is None:
        return examples
    low = math.hypot(max(0.0, value - examples.low), seeds[0])
    high = math.hypot(max(0.0, examples.high - value), seeds[1])
    method = f"{OVER_SEEDS} and {examples.method}, added as squares"
    return Interval(value - low, value + high, method)
