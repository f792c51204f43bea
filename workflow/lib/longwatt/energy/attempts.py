"""Which of a job's time made its final result, and which was wasted.

A job that is killed and run again goes on from its last durable checkpoint: what came after that is lost, and so is
what later attempts spend before they work.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from longwatt.energy.segments import Mark, Segment

IDLE = ("idle_before", "idle_after")
# Phases of a cell's job whose energy is the result's: all that the paper counts as training, or the inference.
WORK = ("train", "validation", "checkpoint", "generate")
ENDING = ("finish", "idle_after")
WHOLE = "run"  # of a segment without marks


@dataclass(frozen=True)
class Interval:
    """Time from one mark to the next (or to the segment's last line).

    Attributes:
        segment: number of its segment.
        phase: its name.
        attempt: of the job's work; None where the job counts none.
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


def intervals(segments: Sequence[Segment]) -> list[Interval]:
    """All intervals of all segments, judged: of a job that counts attempts, what was kept and what was wasted."""
    found = [interval for segment in segments for interval in _intervals(segment)]
    resumed = {
        mark.attempt: mark.step or 0
        for segment in segments
        for mark in reversed(segment.marks)
        if mark.phase == "load" and mark.attempt is not None
    }
    return [_judged(interval, resumed) for interval in found] if resumed else found


def _intervals(segment: Segment) -> list[Interval]:
    end = segment.length_s
    begin = Mark(WHOLE, 0.0, None, None, {})
    marks = segment.marks or [begin]
    attempt = next((mark.attempt for mark in marks if mark.attempt is not None), None)
    last = Mark("", end, None, None, {})
    return [
        Interval(
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


def _judged(interval: Interval, resumed: dict[int, int]) -> Interval:
    attempt, works = interval.attempt, interval.phase in WORK
    kept = works and attempt is not None and _survived(interval, attempt, resumed)
    if works:
        wasted = not kept
    elif interval.phase in ENDING:  # an attempt that was not the last did not complete
        wasted = attempt != max(resumed)
    else:  # the first attempt had to start
        wasted = attempt != min(resumed)
    return replace(interval, kept=kept, wasted=wasted)


def _survived(interval: Interval, attempt: int, resumed: dict[int, int]) -> bool:
    """Whether every later attempt went on from after this interval."""
    later = [step for number, step in resumed.items() if number > attempt]
    if not later:
        return True
    return not interval.unended and interval.end_step is not None and interval.end_step <= min(later)
