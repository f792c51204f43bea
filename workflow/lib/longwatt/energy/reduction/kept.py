"""Divide the time of an inference: kept batches, the pauses between, and waste.

Every kept batch carries the moments of its beginning and end. An inference's seconds are counted
from the same moments, so that its joules and its seconds speak of one set of batches wherever a run
was killed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from longwatt.energy.reduction import windows as meters
from longwatt.energy.reduction.attempts import TimeSpan
from longwatt.energy.reduction.segments import Batches, Floats, Kept, Segment
from longwatt.energy.reduction.windows import MeteredDevice, MeteredPart, Stretch, Window

GENERATE, BETWEEN_BATCHES = "generate", "between_batches"
# No counter is read more often, so that none tells batches from a shorter pause.
JOIN_S = meters.GAP_S


@dataclass
class Division:
    """Parts of an inference's time.

    Attributes:
        kept: batches of the result.
        between: time outside batches, of the runs that kept them: storing, or waiting for other
            processes.
        wasted: time after the last kept batch of a run that did not complete.
        unmetered_s: seconds of kept batches that no meter saw; these are not in `kept`.
        until: the end of each segment's last kept batch, in its seconds.
    """

    kept: list[MeteredPart] = field(default_factory=list)
    between: list[MeteredPart] = field(default_factory=list)
    wasted: list[MeteredPart] = field(default_factory=list)
    unmetered_s: float = 0.0
    until: dict[int, float] = field(default_factory=dict)


def divide(
    inferences: Sequence[Kept], segments: Sequence[Segment], found: Sequence[TimeSpan]
) -> Division:
    """Divide the time that a log's inferences spent on their batches.

    A log has one inference, and several read together may have more.
    """
    division = Division()
    for kept in inferences:
        places = [(one, _segment_of(one, segments)) for one in kept.batches]
        division.unmetered_s += sum(one.seconds for one, segment in places if segment is None)
        for segment in segments:
            own = [one for one, place in places if place is segment]
            if not own and len(inferences) > 1:  # another inference's
                continue
            here = [i for i in found if i.segment == segment.number and i.phase == GENERATE]
            spent = [(i.start, i.end) for i in here]
            last = _is_last(segment, segments)
            for process in range(kept.processes):
                batches = [one for one in own if one.process == process]
                _divide(division, segment, process, kept.processes, batches, spent, last)
    return division


def judged(
    found: Sequence[TimeSpan], division: Division, segments: Sequence[Segment]
) -> list[TimeSpan]:
    """Return the intervals with those of batches cut at the end of the kept work."""
    last = {segment.number for segment in segments if _is_last(segment, segments)}
    return [piece for i in found for piece in _pieces(i, division, i.segment in last)]


def _pieces(interval: TimeSpan, division: Division, last: bool) -> Iterator[TimeSpan]:
    if interval.phase != GENERATE:
        yield interval
        return
    until = interval.end if last else division.until.get(interval.segment, interval.start)
    cut = min(max(until, interval.start), interval.end)
    if cut > interval.start or last:
        yield replace(interval, end=cut, kept=True, wasted=False)
    if cut < interval.end:
        yield replace(interval, start=cut, kept=False, wasted=True)


def _divide(
    division: Division,
    segment: Segment,
    process: int,
    processes: int,
    own: Sequence[Batches],
    spent: Sequence[Window],
    last: bool,
) -> None:
    gpus = segment.gpus
    gpu = None if processes == 1 or not gpus else gpus[process] if process < len(gpus) else ""
    windows = _relative(segment, own)
    # A meter's last reading, or the segment's end if there was none.
    devices = segment.gpus or [""] if gpu is None else [gpu]
    seen = [MeteredDevice(segment, device).last_read_s for device in devices]
    until = min((last for last in seen if last is not None), default=segment.length_s)
    metered = np.minimum(windows[windows[:, 0] < until], until)
    division.unmetered_s += _length(windows) - _length(metered)
    stretches = _joined(metered)
    end = float(windows[-1, 1]) if len(windows) else min((a for a, _ in spent), default=0.0)
    if len(windows):
        division.until[segment.number] = max(end, division.until.get(segment.number, 0.0))
    counted = [(s.start, s.end) for s in stretches]
    rest = meters.minus(spent, [*counted, *segment.excluded])
    before = [(a, min(b, end)) for a, b in rest if a < end]
    after = [(max(a, end), b) for a, b in rest if b > end]
    pauses = [Stretch(s.start, s.end, s.end - s.start - s.seconds) for s in stretches]
    between = [*pauses, *map(Stretch.of, [*before, *(after if last else [])])]
    wasted = [] if last else [Stretch.of(window) for window in after]
    divided = (division.kept, division.between, division.wasted)
    for parts, chosen in zip(divided, (stretches, between, wasted), strict=True):
        if chosen:
            parts.append(MeteredPart(segment, tuple(chosen), gpu, 1 / processes))


def _segment_of(batches: Batches, segments: Sequence[Segment]) -> Segment | None:
    """Find the segment, if any, that was recorded while batches were predicted."""
    if not len(batches.windows):
        return None
    first = int(batches.windows[0, 0])
    there = [
        segment
        for segment in segments
        if segment.header["boot_id"] == batches.boot_id
        and 0 <= segment.seconds(first) <= segment.length_s
    ]
    own = [segment for segment in there if segment.attempt == batches.attempt]
    return next(reversed(own or there), None)


def _is_last(segment: Segment, segments: Sequence[Segment]) -> bool:
    """Return whether a segment's attempt is the job's last, which completed if any did."""
    attempts = [one.attempt for one in segments if one.attempt is not None]
    return segment.attempt == max(attempts, default=None)


def _relative(segment: Segment, own: Sequence[Batches]) -> Floats:
    """Return windows in seconds since the segment's beginning, in order of time, (batches, 2)."""
    if not own:
        return np.empty((0, 2))
    windows = np.concatenate([one.windows for one in own])
    seconds: Floats = (windows[np.argsort(windows[:, 0])] - segment.header["t"]) / 1e9
    return seconds


def _length(windows: Floats) -> float:
    return float((windows[:, 1] - windows[:, 0]).sum())


def _joined(windows: Floats) -> list[Stretch]:
    """Join windows with only short pauses between them to one stretch."""
    if not len(windows):
        return []
    starts, ends = windows[:, 0], windows[:, 1]
    first = np.flatnonzero(np.concatenate([[True], starts[1:] - ends[:-1] > JOIN_S]))
    last = np.concatenate([first[1:], [len(windows)]]) - 1
    seconds = np.add.reduceat(ends - starts, first)
    edges = zip(first, last, seconds, strict=True)
    return [Stretch(float(starts[a]), float(ends[b]), float(s)) for a, b, s in edges]
