"""Readings of one device's meters over stretches of time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from longwatt.energy.reduction.segments import EMPTY, Floats, Segment, Series

COUNTER, INTEGRAL, RAPL = "nvml_counter", "nvml_power_integral", "rapl"
AVERAGE_LAG_S = 0.5  # the mean of the last second speaks of half a second ago
# Two processes' readings of one counter may stand a moment out of order; a reset falls by far more.
RESET_J = 50.0
BRACKET_S = 2.5  # a counter is interpolated between readings this close (it is read every second)
STALE_S, STALE_W = 3.0, 5.0  # a counter that stands still so long while so much flows has failed
EDGE_S = 0.1  # a counter read this close to a moment is that moment's: it moves no faster
GAP_S = 1.0  # samples further apart than this leave a gap
COVERED = 0.9  # share of a window that samples must cover for its integral to be believed
DISAGREES_PCT = 5.0
AMOUNTS_READ = ("duration_s", "covered_s", "energy_j", "counter_j", "integral_j")
Window = tuple[float, float]


class Stretch(NamedTuple):
    """A window, and how many of its seconds count.

    Batches that follow each other closely are one stretch: no meter tells them from the pauses
    between them, so that they are billed at its mean power.
    """

    start: float
    end: float
    seconds: float

    @classmethod
    def of(cls, window: Window) -> Stretch:
        """Count all of a window."""
        return cls(*window, window[1] - window[0])


@dataclass(frozen=True)
class MeteredPart:
    """Stretches of one segment that are summed up.

    Attributes:
        gpu: the only one of its GPUs that they are about; None for all.
        share: the part of the job's time, and of its processors, that they stand for: a half where
            two processes work at once.
    """

    segment: Segment
    windows: tuple[Stretch, ...]
    gpu: str | None = None
    share: float = 1.0

    @property
    def seconds(self) -> float:
        """The job's time that they stand for."""
        return self.share * sum(window.seconds for window in self.windows)


@dataclass(frozen=True)
class Reading:
    """One window of one device, with None for what is unknown.

    Attributes:
        span_s: its length, pauses included.
        duration_s: its seconds that count.
    """

    span_s: float
    duration_s: float
    energy_j: float | None
    source: str | None
    counter_j: float | None
    integral_j: float | None
    resets: int
    stale_s: float
    samples: int
    sample_sum_w: float
    covered_s: float
    largest_gap_s: float
    peak_w: float | None

    def part(self, factor: float) -> Reading:
        """Count only a part of what flowed, at its mean power."""
        amounts = {name: getattr(self, name) for name in AMOUNTS_READ}
        known = {name: amount * factor for name, amount in amounts.items() if amount is not None}
        return replace(self, **known)


@dataclass(eq=False)
class MeteredDevice:
    """A GPU of a segment by its UUID, or its processors ("")."""

    segment: Segment
    gpu: str

    @cached_property
    def counter(self) -> Series:
        """Joules: the recorder's readings and those at the marks, in order of time."""
        if not self.gpu:  # of a node that several jobs shared, no job's
            return EMPTY if self.segment.shared else self.segment.of("rapl_j")
        own = self.segment.of("counter_j", self.gpu)
        marks = [mark for mark in self.segment.marks if self.gpu in mark.counters_j]
        times = np.concatenate([own.times, [mark.time for mark in marks]])
        values = np.concatenate([own.values, [mark.counters_j[self.gpu] for mark in marks]])
        order = np.argsort(times, kind="stable")
        return _without_late(times[order], values[order])

    @cached_property
    def power(self) -> Series:
        """Watts at the times that they speak of.

        They are means of a second where there are some, else the newest readings. A sensor that
        looks at 25 ms of every 100 ms (A100, H100) can lock to a periodic load. Its own mean
        cannot.
        """
        average = self.segment.of("average_w", self.gpu)
        if len(average.times) > 1:
            return Series(average.times - AVERAGE_LAG_S, average.values)
        return self.segment.of("instant_w", self.gpu) if self.gpu else EMPTY

    @cached_property
    def samples(self) -> Series:
        """Watts as they were sampled, for peaks and plain means."""
        instant = self.segment.of("instant_w", self.gpu) if self.gpu else EMPTY
        return instant if len(instant.times) else self.segment.of("average_w", self.gpu)

    @cached_property
    def last_read_s(self) -> float | None:
        """When it was last read, or None if it never was."""
        series = (self.counter, self.samples if self.gpu else self.segment.of("cpu_s"))
        return next((float(one.times[-1]) for one in series if len(one.times)), None)

    def read(self, window: Stretch) -> Reading:
        """Read everything about one stretch, as far as it counts."""
        found = self._read((window.start, window.end))
        return found.part(window.seconds / found.span_s) if found.span_s > 0 else found

    def _read(self, window: Window) -> Reading:
        start, end = window
        counted, resets = self._counted(start, end)
        integral = self._integral(start, end)
        stale = self._stale_s(start, end)
        energy, source = self._choose(counted, integral, stale)
        within = _within(self.samples, start, end)
        covered, gap = _coverage(self.samples.times, start, end)
        return Reading(
            span_s=end - start,
            duration_s=end - start,
            energy_j=energy,
            source=source,
            counter_j=counted,
            integral_j=integral,
            resets=resets,
            stale_s=stale,
            samples=len(within),
            sample_sum_w=float(within.sum()),
            covered_s=covered,
            largest_gap_s=gap,
            peak_w=float(within.max()) if len(within) else None,
        )

    def _choose(
        self, counted: float | None, integral: float | None, stale_s: float
    ) -> tuple[float | None, str | None]:
        if not self.gpu:
            return counted, None if counted is None else RAPL
        least = None if integral is None else integral * (1 - DISAGREES_PCT / 100)
        lacks = counted is not None and least is not None and counted < least
        if counted is not None and not (lacks and stale_s >= STALE_S):
            return counted, COUNTER
        return integral, None if integral is None else INTEGRAL

    def _counted(self, start: float, end: float) -> tuple[float | None, int]:
        """Return the counter's joules and its resets, around which the integral stands in."""
        times, values = self.counter
        edges = (_at(self.counter, start), _at(self.counter, end))
        if edges[1] is None and len(times) and max(start, end - BRACKET_S) < times[-1] < end:
            counted, count = self._counted(start, times[-1])  # the recorder died after its reading
            rest = self._integral(times[-1], end) or 0.0
            return (None if counted is None else counted + rest), count
        if edges[0] is None or edges[1] is None:
            return None, 0
        inside = _inside(times, start, end)
        points = np.concatenate([[edges[0]], values[inside], [edges[1]]])
        moments = np.concatenate([[start], times[inside], [end]])
        steps = np.diff(points)
        resets = np.flatnonzero(steps < -RESET_J)
        total = float(steps.sum() - steps[resets].sum())
        for number in resets:
            across = self._integral(moments[number], moments[number + 1])
            if across is None:
                return None, len(resets)
            total += across
        return max(0.0, total), len(resets)

    def _integral(self, start: float, end: float) -> float | None:
        """Integrate power by trapezoids (None if samples miss too much of the window)."""
        times, values = self.power
        covered, _ = _coverage(times, start, end)
        if end <= start or covered < COVERED * (end - start):
            return None
        inside = _inside(times, start, end)
        moments = np.concatenate([[start], times[inside], [end]])
        first, last = np.interp([start], times, values), np.interp([end], times, values)
        watts = np.concatenate([first, values[inside], last])
        return float(np.sum(np.diff(moments) * (watts[1:] + watts[:-1])) / 2)

    def _stale_s(self, start: float, end: float) -> float:
        """Return the longest time that the counter stood still while power flowed."""
        times, values = self.counter
        there = _slice(times, start, end)
        times, values = times[there], values[there]
        if len(times) < 2:
            return 0.0
        changes = np.concatenate([[0], np.flatnonzero(np.diff(values) != 0) + 1, [len(times)]])
        stretches = [(times[a], times[b - 1]) for a, b in itertools.pairwise(changes)]
        stood = [(a, b) for a, b in stretches if b - a >= STALE_S]
        flowing = [b - a for a, b in stood if (self._integral(a, b) or 0.0) > STALE_W * (b - a)]
        return float(max(flowing, default=0.0))


def _without_late(times: Floats, values: Floats) -> Series:
    """Leave out readings that were taken later than their time says."""
    # The reading after such a one is less, the next is more again. A reset falls and stays below.
    falls = np.flatnonzero(np.diff(values) < -RESET_J)
    late = [i for i in falls if i + 2 < len(values) and values[i + 2] >= values[i]]
    return Series(np.delete(times, late), np.delete(values, late))


def minus(windows: Sequence[Window], excluded: Sequence[Window]) -> list[Window]:
    """Return the pieces of windows outside others."""
    left = list(windows)
    for start, end in excluded:
        cut = [piece for a, b in left for piece in ((a, min(b, start)), (max(a, end), b))]
        left = [(a, b) for a, b in cut if b > a]
    return left


def mean_over_windows(series: Series, windows: Sequence[Window]) -> float | None:
    """Return the mean over windows by length (None where none holds a value)."""
    every = [(_within(series, start, end), end - start) for start, end in windows]
    found = [(within.mean(), length) for within, length in every if len(within)]
    weight = sum(length for _, length in found)
    return float(sum(mean * length for mean, length in found) / weight) if weight > 0 else None


def values_of(series: Series, windows: Sequence[Window]) -> Floats:
    """Return all values within several windows."""
    return np.concatenate([EMPTY.values, *(_within(series, start, end) for start, end in windows)])


def growth(series: Series, window: Window, bracket_s: float) -> float | None:
    """Return a counter's growth in a window read within `bracket_s` at both ends."""
    start, end = (_at(series, moment, bracket_s) for moment in window)
    return None if start is None or end is None else max(0.0, end - start)


def _within(series: Series, start: float, end: float) -> Floats:
    return series.values[_slice(series.times, start, end)]


def _slice(times: Floats, start: float, end: float) -> slice:
    """Return the slice of sorted times from start to end, both included."""
    return slice(int(np.searchsorted(times, start)), int(np.searchsorted(times, end, "right")))


def _inside(times: Floats, start: float, end: float) -> slice:
    """Return the slice between start and end, both left out."""
    return slice(int(np.searchsorted(times, start, "right")), int(np.searchsorted(times, end)))


def _at(series: Series, moment: float, bracket_s: float = BRACKET_S) -> float | None:
    """Return a counter at a moment, if readings are close to it."""
    times, values = series
    after = int(np.searchsorted(times, moment))
    if after < len(times) and times[after] == moment:
        return float(values[after])
    if 0 < after < len(times) and times[after] - times[after - 1] <= bracket_s:
        return float(np.interp(moment, times, values))
    # Readings far apart, or on one side alone: only one of this very moment counts.
    around = [place for place in (after - 1, after) if 0 <= place < len(times)]
    near = min(around, key=lambda place: float(abs(times[place] - moment)), default=None)
    return None if near is None or abs(times[near] - moment) >= EDGE_S else float(values[near])


def _coverage(times: Floats, start: float, end: float) -> tuple[float, float]:
    """Return the seconds of a window within reach of samples, and the longest gap."""
    inside = times[_inside(times, start, end)]
    gaps = np.diff(np.concatenate([[start], inside, [end]]))
    if not len(inside):  # samples around a short window speak for it
        around, length = times[_slice(times, start - GAP_S, end + GAP_S)], end - start
        return (length if len(around) > 1 and length <= GAP_S else 0.0), float(length)
    return float(end - start - gaps[gaps > GAP_S].sum()), float(gaps.max())
