"""Intervals of means over seeds, and of differences of numbers that have intervals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from longwatt.metrics.resampling import FULL_SCORE, Ends

NORMAL_95 = 1.96
# A number, and the ends of its interval.
Known = tuple[float, float, float]


def over_seeds(values: Any, confidence: float = 0.95) -> Ends:
    """Find the interval of the mean of two values or more by Student's t."""
    found = np.asarray(values, float)
    half = students_t(confidence, len(found) - 1) * float(found.std(ddof=1)) / math.sqrt(len(found))
    mean = float(found.mean())
    return mean - half, mean + half


def over_seeds_of_scores(scores: Any, lows: Any, highs: Any, confidence: float = 0.95) -> Ends:
    """Find the interval of a mean score over seeds, or over examples if all agree.

    Seeds that all answer everything right would give an interval without width.

    Args:
        scores: of two seeds or more.
        lows: lower ends of each seed's interval over examples; NaN if unknown.
        highs: the upper ends.
        confidence: between 0 and 1.
    """
    low, high = (float(np.mean(np.asarray(ends, float))) for ends in (lows, highs))
    if np.ptp(np.asarray(scores, float)) > 0 or math.isnan(low) or math.isnan(high):
        return over_seeds(scores, confidence)
    return low, high


def of_a_score(low: float, high: float) -> Ends:
    """Cut an interval to 0 to 100, since Student's t has no bounds."""
    return max(0.0, low), min(FULL_SCORE, high)


def students_t(confidence: float, freedom: int) -> float:
    """Find the t with this share of Student's distribution between -t and t."""
    low, high = 0.0, 1.0
    while _within(high, freedom) < confidence:
        high *= 2
    for _ in range(60):  # halvings: as exact as a float
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return round(high, 3)  # as it is printed


def _within(t: float, freedom: int) -> float:
    """Return the weight of Student's distribution from -t to t."""
    # Abramowitz and Stegun, 26.7.3 and 26.7.4.
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term, total = (math.cos(angle), 0.0) if odd else (1.0, 0.0)
    for n in range(2 + odd, freedom + 1, 2):
        total += term
        term *= (n - 1) / n * math.cos(angle) ** 2
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


def of_difference(first: Known, second: Known) -> Ends:
    """Find the interval of the first less the second, both independent.

    Newcombe (Statistics in Medicine 17, 1998). Two cells that score the same examples are not
    independent, which makes this too wide rather than too narrow. Ends may be infinite.
    """
    (one, low, high), (other, other_low, other_high) = first, second
    below = math.hypot(one - low, other_high - other)
    above = math.hypot(high - one, other - other_low)
    return one - other - below, one - other + above
