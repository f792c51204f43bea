"""Gains of a model with exits over baselines, with intervals from the same resampled examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from longwatt.exits.measured import Measured
from longwatt.metrics import resampling
from longwatt.metrics.document_samples import DocumentSample, sizes_drawn, with_documents
from longwatt.metrics.resampling import (
    FULL_SCORE,
    Array,
    Resampling,
    Sample,
    percentile_interval,
)
from longwatt.metrics.score_intervals import small_sample_factor, wider_ends

ENOUGH_BATCHES = 5  # fewer say too little of how batches differ

ResamplingSettings = Mapping[str, Any]
OptionalEnds = tuple[float | None, float | None]


@dataclass(frozen=True)
class GainEstimate:
    """A number and the ends of its interval, None where `reason` says why."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    def columns(self, name: str) -> dict[str, float | None]:
        """Return it by the names of a summary's columns."""
        return {name: self.value, f"{name}_ci_low": self.low, f"{name}_ci_high": self.high}


@dataclass(frozen=True)
class Draws:
    """Accuracies (%) and seconds per example of points, measured and in every resample.

    Attributes:
        accuracy: (points).
        seconds: (points).
        accuracies: (resamples, points).
        times: (resamples, points).
        untimed: why `times` says too little for an interval; empty where it does not.
        unlike: share of examples that points may answer otherwise though they answer nearly all
            alike; else None.
        factor: by which few examples or documents widen the interval of a gain in accuracy.
    """

    accuracy: Array
    seconds: Array
    accuracies: Array
    times: Array
    untimed: str = ""
    unlike: float | None = None
    factor: float = 1.0

    @classmethod
    def of(cls, points: Sequence[Measured], settings: ResamplingSettings) -> Draws:
        """Resample the examples of points that predicted the same ones.

        Documents are drawn where examples share some, as in every comparison of scores.
        At batch size 1 an example's time is its own, and is resampled with it. In larger batches
        it is that of others as well. Whole batches are resampled then, each point's apart from its
        examples' answers.
        """
        pairs = [pair for point in points if (pair := point.in_order(points[0].ids))]
        assert len(pairs) == len(points), "points of other examples are left out before"
        right, seconds = (np.stack(columns, axis=1) for columns in zip(*pairs, strict=True))
        columns = np.concatenate([right, seconds], axis=1)
        sample = _sample(points, columns)
        accuracies, times = np.split(sample.draws(*_how(settings)), 2, axis=1)
        untimed = ""
        if points[0].batch_size > 1:
            drawn = [_ratios(one.batches, settings, place) for place, one in enumerate(points, 1)]
            times = np.stack(drawn, axis=1)
            if min(len(point.batches) for point in points) < ENOUGH_BATCHES:
                untimed = f"fewer than {ENOUGH_BATCHES} batches, so that times have no interval"
        beside = sample.values[:, : len(points)] - sample.values[:, :1]
        if isinstance(sample, DocumentSample):
            beside = sample.means_of_documents(beside)
        unlike = resampling.unlike_share(beside, settings["confidence"])
        factor = small_sample_factor(sizes_drawn(sample), Resampling.of(settings))
        means = right.mean(axis=0), seconds.mean(axis=0)
        return cls(*means, accuracies, times, untimed, unlike, factor)

    def interval(self, found: Array, settings: ResamplingSettings) -> OptionalEnds:
        """Return the interval of resampled values, None where they say too little of times."""
        return (None, None) if self.untimed else percentile_interval(found, settings["confidence"])


def relative_time(
    point: Measured, standard: Measured, settings: ResamplingSettings
) -> GainEstimate:
    """Divide a point's seconds per example by the standard baseline's.

    Its interval resamples batches. At batch size 1, where both predicted the same examples, both
    are resampled from the same ones.
    """
    value = point.seconds_per_example / standard.seconds_per_example
    if point is standard:
        return GainEstimate(value, value, value)
    if min(len(point.batches), len(standard.batches)) < ENOUGH_BATCHES:
        few = f"{point.name}: fewer than {ENOUGH_BATCHES} batches, so its time has no interval"
        return GainEstimate(value, reason=few)
    paired = standard.in_order(point.ids) if point.batch_size == 1 else None
    if paired:
        found = _ratios(np.stack([point.seconds, paired[1]], axis=1), settings)
    else:
        found = _ratios(point.batches, settings) / _ratios(standard.batches, settings, 1)
    return GainEstimate(value, *percentile_interval(found, settings["confidence"]))


def speedup_at_equal_accuracy(draws: Draws, settings: ResamplingSettings) -> GainEstimate:
    """Divide the standard's time by that of the fastest point that is as accurate.

    It is 1 where no point is as accurate, in a resample as in what was measured: one would use the
    standard.

    Args:
        draws: of the standard, then of our points.
        settings: equal_accuracy_points: how far below still counts as equal.
    """
    value = _speedups(draws.accuracy[None], draws.seconds[None], settings)[0]
    none = "no threshold or patience is as accurate as the standard baseline, so one would use that"
    reason = "; ".join(filter(None, (none if np.isnan(value) else "", draws.untimed)))
    found = np.nan_to_num(_speedups(draws.accuracies, draws.times, settings), nan=1.0)
    return GainEstimate(
        float(np.nan_to_num(value, nan=1.0)), *draws.interval(found, settings), reason
    )


def accuracy_over_efficient(
    draws: Draws, baselines: int, settings: ResamplingSettings
) -> GainEstimate:
    """Find the smallest gain over any efficient baseline at that baseline's time, in points.

    A gain is our accuracy less the baseline's. Ours at a time lies on straight lines between our
    points, each the best that takes no more time. Beyond our slowest it is the best of all. A
    baseline faster than our fastest point is beaten by none of ours if it is as accurate as that,
    and counts with the difference. Else it trades accuracy for a speed that we do not have, and is
    left out.

    Args:
        draws: of the efficient baselines, then of our points.
        baselines: how many.
        settings: confidence.
    """
    ours, fastest = draws.seconds[baselines:], baselines + int(draws.seconds[baselines:].argmin())
    compared = [
        n for n in range(baselines)
        if draws.seconds[n] >= ours.min() or draws.accuracy[n] >= draws.accuracy[fastest]
    ]  # fmt: skip
    left_out = baselines - len(compared)
    reason = (
        f"{left_out} of {baselines} efficient baselines are faster and less accurate than our "
        "fastest point"
    )
    if not compared:
        return GainEstimate(reason=reason)
    value = _least_gain(draws.accuracy, draws.seconds, baselines, compared)
    pairs = zip(draws.accuracies, draws.times, strict=True)
    found = np.array([_least_gain(*pair, baselines, compared) for pair in pairs])
    said = "; ".join(filter(None, (reason if left_out else "", draws.untimed)))
    return GainEstimate(value, *_allowing(value, draws, draws.interval(found, settings)), said)


def _allowing(value: float, draws: Draws, ends: OptionalEnds) -> OptionalEnds:
    """Widen the interval of a gain for few examples, and for ones unlike nearly identical ones."""
    low, high = ends
    if low is None or high is None:
        return ends
    low, high = wider_ends(value, (low, high), draws.factor)
    if draws.unlike is None:
        return low, high
    kept, reach = (1 - draws.unlike) * value, FULL_SCORE * draws.unlike
    return min(low, kept - reach), max(high, kept + reach)


def accuracy_at(seconds: Array, accuracy: Array, at: float) -> float:
    """Interpolate accuracy at a time between points, each the best that takes no more time."""
    order = np.argsort(seconds, kind="stable")
    return float(np.interp(at, seconds[order], np.maximum.accumulate(accuracy[order])))


def _least_gain(accuracy: Array, seconds: Array, baselines: int, within: Sequence[int]) -> float:
    ours = seconds[baselines:], accuracy[baselines:]
    return min(accuracy_at(*ours, float(seconds[n])) - float(accuracy[n]) for n in within)


def _speedups(accuracy: Array, seconds: Array, settings: ResamplingSettings) -> Array:
    """Return speed-ups by row, NaN where no point is as accurate as column 0."""
    equal = accuracy[:, 1:] >= accuracy[:, :1] - settings["equal_accuracy_points"]
    fastest = np.where(equal, seconds[:, 1:], np.inf).min(axis=1)
    return np.where(np.isinf(fastest), np.nan, seconds[:, 0] / fastest)


def _sample(points: Sequence[Measured], columns: Array) -> Sample:
    """Gather columns (examples, any) of points' examples, by document where these are known."""
    known = next((point.documents for point in points if point.documents), None)
    sample = Sample.of(points[0].ids, columns, score=lambda means: means)
    return with_documents(sample, known)


def _ratios(columns: Array, settings: ResamplingSettings, place: int = 0) -> Array:
    """Divide the sums of two columns in every resample, `place` setting draws apart."""
    sums = _resampled(columns, settings, place)
    return np.asarray(sums[:, 0] / sums[:, 1])


def _resampled(columns: Array, settings: ResamplingSettings, place: int = 0) -> Array:
    resamples, seed = _how(settings, place)
    return resampling.resampled_sums(columns, resamples=resamples, seed=seed)


def _how(settings: ResamplingSettings, place: int = 0) -> tuple[int, int]:
    """Return the number of resamples, and the seed of a place."""
    return settings["bootstrap_resamples"], settings["seed"] + place
