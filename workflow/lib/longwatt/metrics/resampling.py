"""The bootstrap over examples: sums of many numbers per example at once, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES_AT_ONCE = 64  # bounds the memory: 64 x examples counts

Array = NDArray[Any]


def resampled_sums(values: Array, *, resamples: int, seed: int) -> Array:
    """Sums over examples that are drawn with replacement, as many as there are.

    Columns of one call see the same resamples, so what is made from several of them is paired.

    Args:
        values: (examples, columns).
        resamples: how many.
        seed: equal seeds draw equal examples of as many.

    Returns:
        (resamples, columns).
    """
    source, found = np.random.default_rng(seed), []
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        size = (min(RESAMPLES_AT_ONCE, resamples - start), len(values))
        found.append(_counts(source.integers(0, len(values), size)) @ values)
    return np.concatenate(found)


def percentile_interval(found: Array, confidence: float) -> tuple[float, float]:
    """The ends between which this share of resampled values lies."""
    tail = 50 * (1 - confidence)
    low, high = np.percentile(found, [tail, 100 - tail])
    return float(low), float(high)


def _counts(drawn: Array) -> Array:
    """How often each resample (rows) has each example (columns)."""
    resamples, examples = drawn.shape
    places = drawn + np.arange(resamples)[:, None] * examples
    return np.bincount(places.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(float)
