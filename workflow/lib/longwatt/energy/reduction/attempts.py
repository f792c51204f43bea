"""Time of a job that made its final result, and time that was wasted.

A job that is killed and run again goes on from its last durable checkpoint. The work after that
checkpoint is lost, and so is the time that later attempts spend before they work.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from longwatt.energy.reduction.segments import Mark, Segment

IDLE = ("idle_before", "idle_after")
# Phases that count as the result's energy: the inference, or training as the paper counts it.
WORK = ("train", "validation", "checkpoint", "generate")
ENDING = ("finish", "idle_after")
WHOLE_SEGMENT = "run"  # of a segment without marks


@dataclass(frozen=True)
class TimeSpan:
    """Time from one mark to the next (or to the segment's last line).

    Attributes:
        segment: number of its segment.
        attempt: number of the job's attempt; None where the job counts none.
        start, end: seconds since the segment's beginning.
        end_step: training step (or batch) reached at its end.
        unended: no mark ended it; the job may have done any part of it.
        kept: whether its work is in the final result.
        wasted: whether it had to be spent again or for nothing.
    """

    segment: int
    phase: str
    attempt: int | None
    start: float
    end: float
    end_step: int | None
    unended: bool
    kept: bool = True
    wasted: bool = False

    @property
    def duration_s(self) -> float:
        """Its length."""
        return self.end - self.start


def intervals(segments: Sequence[Segment]) -> list[TimeSpan]:
    """Return all intervals, judged kept or wasted where the job counts attempts."""
    found = [interval for segment in segments for interval in _intervals(segment)]
    loads = {
        mark.attempt: mark
        for segment in segments
        for mark in reversed(segment.marks)
        if mark.phase == "load" and mark.attempt is not None
    }
    if not loads:
        return found
    resumed = {attempt: mark.step or 0 for attempt, mark in loads.items()}
    counted = {attempt: mark.checkpoint_counted is not False for attempt, mark in loads.items()}
    cuts = {attempt: _cut(attempt, resumed, counted, found) for attempt in resumed}
    return [_judged(interval, resumed, cuts) for interval in found]


def _cut(
    attempt: int, resumed: Mapping[int, int], counted: Mapping[int, bool], found: Sequence[TimeSpan]
) -> float:
    """Return when an attempt wrote the checkpoint that a later one resumed from.

    The work after that moment was lost. Steps alone do not tell it: a validation that is made up
    for, or a search for better weights, takes time at the very step of the checkpoint, and again
    with every attempt. The checkpoint's own time counts only where the later attempt knows it.

    Returns:
        Seconds of the attempt's segment; infinite where all its work was kept.
    """
    later = {number: step for number, step in resumed.items() if number > attempt}
    if not later:
        return math.inf
    step = min(later.values())
    own = [i for i in found if i.attempt == attempt]
    if any(i.phase == "generate" for i in own):  # every mark of an inference is durable
        return math.inf
    if resumed[attempt] >= step:
        return -math.inf
    writing = [i for i in own if i.phase == "checkpoint" and i.end_step == step]
    if not writing:  # its mark was lost: steps have to do
        return math.inf
    first = min(number for number, went_on in later.items() if went_on == step)
    return writing[-1].end if counted[first] and not writing[-1].unended else writing[-1].start


def _intervals(segment: Segment) -> list[TimeSpan]:
    marks = segment.marks or [Mark(WHOLE_SEGMENT, 0.0, None, None, {})]
    attempt, last = segment.attempt, Mark("", segment.length_s, None, None, {})
    return [
        TimeSpan(
            segment=segment.number,
            phase=start.phase,
            attempt=attempt,
            start=start.time,
            end=stop.time,
            end_step=start.step if stop.step is None else stop.step,
            unended=stop is last,
        )
        for start, stop in itertools.pairwise([*marks, last])
    ]


def _judged(interval: TimeSpan, resumed: Mapping[int, int], cuts: Mapping[int, float]) -> TimeSpan:
    kept = interval.phase in WORK and _survived(interval, resumed, cuts)
    if interval.phase in WORK:
        wasted = not kept
    elif interval.phase in ENDING:  # an attempt that was not the last did not complete
        wasted = interval.attempt != max(resumed)
    else:  # the first attempt had to start
        wasted = interval.attempt != min(resumed)
    return replace(interval, kept=kept, wasted=wasted)


def _survived(interval: TimeSpan, resumed: Mapping[int, int], cuts: Mapping[int, float]) -> bool:
    """Return whether every later attempt resumed from after this interval."""
    if interval.attempt is None:
        return False
    later = [step for number, step in resumed.items() if number > interval.attempt]
    if not later:
        return True
    if interval.unended or interval.end_step is None or interval.end_step > min(later):
        return False
    return interval.end <= cuts.get(interval.attempt, -math.inf)
