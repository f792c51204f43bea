"""Scores of a cascade at every threshold, from what its two cells answered alone."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace

import numpy as np

from longwatt.cascades.members import CascadeError, Numbers
from longwatt.metrics.resampling import ROUNDING, Resampling, Sample


@dataclass(frozen=True, eq=False)
class EscalationCurve:
    """A cascade at every threshold that changes who answers, from none escalated to all.

    Attributes:
        thresholds: an answer is escalated below it, or where its confidence is unknown.
        rates: share of the requests that are escalated.
        scores: of all examples, each answered by one of the two.
    """

    thresholds: Numbers
    rates: Numbers
    scores: Numbers


def escalated(sure: Numbers, threshold: float) -> Numbers:
    """Return which examples the first cell is unsure of."""
    return np.asarray(np.isnan(sure) | (sure < threshold))


def cascaded(first: Sample, last: Sample, asked: Numbers) -> Sample:
    """Gather what examples add to a score if the last cell answers some of them.

    Args:
        first, last: of the same examples, as `longwatt.cascades.members.paired_samples` has them.
        asked: which of them the last cell answers (examples).
    """
    marks = np.where(asked[:, None], last.marks, first.marks)
    return replace(first, marks=marks, values=np.where(asked[:, None], last.values, first.values))


def rate_of(sample: Sample, asked: Numbers) -> float:
    """Return the share of the requests that are escalated."""
    return float(sample.rows[asked].sum() / sample.rows.sum())


def curve_of(first: Sample, last: Sample, sure: Numbers) -> EscalationCurve:
    """Score a cascade at every threshold.

    Args:
        first, last: as for `cascaded`.
        sure: confidences of the first (examples), NaN where unknown.

    Raises:
        CascadeError: no confidence is known.
    """
    order = np.argsort(np.where(np.isnan(sure), -np.inf, sure), kind="stable")
    known = np.unique(sure[~np.isnan(sure)])
    if not len(known):
        raise CascadeError("no confidence is known of any example, so none can be sure")
    thresholds = np.concatenate([known[:1], (known[1:] + known[:-1]) / 2, known[-1:] + 1])
    unknown = int(np.isnan(sure).sum())
    counts = unknown + np.searchsorted(np.sort(sure[~np.isnan(sure)]), thresholds)
    return EscalationCurve(thresholds, *_along(first, last, order, counts))


def oracle_of(first: Sample, last: Sample) -> EscalationCurve:
    """Score the cascade that knows which examples the last cell answers better.

    Each example's own scores decide, in the order of what it gains. Its thresholds are that gain.
    Where the headline is not a mean over examples, it is the best in nearly all cases.
    """
    gains = _alone(last) - _alone(first)
    order = np.argsort(-gains, kind="stable")
    counts = np.arange(int((gains > 0).sum()) + 1)
    thresholds = np.append(gains[order], 0.0)[counts]
    return EscalationCurve(thresholds, *_along(first, last, order, counts))


def kept_share(found: Sample, best: Sample, keep: float, how: Resampling) -> float:
    """Return the share of paired resamples in which a score keeps a share of another.

    Args:
        found, best: of the same examples.
        keep: share of the score of `best` that counts as kept.
        how: resamples and their seed.
    """
    own, other = (one.draws(how.resamples, how.seed) for one in (found, best))
    return float(np.mean(own >= keep * other - ROUNDING))


def fitted_place(
    curve: EscalationCurve, pair: tuple[Sample, Sample], sure: Numbers, keep: float, how: Resampling
) -> int:
    """Find the fewest escalations that surely keep a share of the better cell's score.

    It is kept in as many of the resamples as the confidence of `how` asks for. Kept just where it
    is fitted, a score is lost elsewhere about half of the time.

    Args:
        curve: of these samples and confidences.
        pair: of the first and of the last cell.
        sure: confidences of the first (examples), NaN where unknown.
        keep: share of the better cell's score; above 1 for more than either cell scores alone,
            where the highest score is taken if none is surely so high.
        how: of the resamples.
    """
    best = max(pair, key=lambda one: one.value)

    def keeps(place: int) -> bool:
        asked = escalated(sure, float(curve.thresholds[place]))
        return kept_share(cascaded(*pair, asked), best, keep, how) >= how.confidence

    highest = int(curve.scores.argmax())
    enough = curve.scores >= min(keep * best.value, curve.scores[highest]) - ROUNDING
    places = [int(place) for place in np.flatnonzero(enough)]
    if keep > 1 and not keeps(highest):
        return highest
    if keeps(places[0]) or not keeps(places[-1]):
        return places[0]
    # More escalations keep more, but for chance.
    return places[bisect_left(places, True, key=keeps)]


def _along(first: Sample, last: Sample, order: Numbers, counts: Numbers) -> tuple[Numbers, Numbers]:
    """Return rates and scores with the first `counts` examples of an order escalated."""
    gained = np.cumsum((last.marks - first.marks)[order], axis=0)
    moved = np.vstack([np.zeros(first.marks.shape[1]), gained])[counts]
    asked = np.concatenate([[0.0], np.cumsum(first.rows[order])])[counts]
    whole = float(first.rows.sum())
    return asked / whole, first.score((first.marks.sum(axis=0) + moved) / whole)


def _alone(sample: Sample) -> Numbers:
    """Return each example's own score (examples)."""
    values = sample.values
    return np.asarray(values.prod(axis=1) ** (1 / values.shape[1]))
