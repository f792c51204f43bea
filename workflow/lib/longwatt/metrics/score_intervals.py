"""Find intervals of scores over examples and, for several seeds, over seeds too.

One seed gives an interval over examples. Several seeds give one over seeds and examples together:
half widths add as squares, as for a difference of independent numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from longwatt.metrics import resampling
from longwatt.metrics.resampling import Interval, Resampling, Scores
from longwatt.metrics.seed_intervals import of_a_score, over_seeds

OVER_SEEDS = "Student's t over seeds"

Halves = tuple[float, float]  # how far an interval reaches below and above its number


def mean_of_scores(scores: Scores) -> Interval:
    """Find the interval of a score, over seeds too if there are several."""
    seeds = _halves(scores.by_seed, scores.how)
    low, high, method = _with_seeds(scores.value, resampling.interval_of(scores), seeds)
    return Interval(*of_a_score(low, high), method)


def paired_difference(first: Scores, second: Scores, paired_seeds: bool) -> Interval:
    """Find the interval of the first score less the second, both of the same examples."""
    seeds = _seeds_of_pair(first.by_seed, second.by_seed, first.how, paired_seeds)
    return _with_seeds(first.value - second.value, resampling.difference_of(first, second), seeds)


def paired_ratio(first: Scores, second: Scores, paired_seeds: bool) -> Interval | None:
    """Find a ratio's interval by logarithms, or None if a score may be 0."""
    found = resampling.ratio_of(first, second)
    if found is None or min(*first.by_seed, *second.by_seed) <= 0:
        return None
    low, high = (math.log(end) if end > 0 else -math.inf for end in found.ends)
    logs = Interval(low, high, found.method)
    sides = np.log(first.by_seed), np.log(second.by_seed)
    value = math.log(first.value) - math.log(second.value)
    low, high, method = _with_seeds(value, logs, _seeds_of_pair(*sides, first.how, paired_seeds))
    return Interval(math.exp(low), math.exp(high), method)


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
