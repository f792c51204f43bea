"""When a study's jobs would start and end on so many GPUs, in the order in which the scheduler takes them.

The order is that of `longwatt.priorities`; GPUs are held back for the most urgent job that does not fit, as the
scheduler does. Jobs on the CPU run one at a time. Data are there and starting a job takes no time.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Job:
    """A training or a prediction.

    Attributes:
        cell, part: what it makes.
        gpus: devices that it leases; 0 is the CPU.
        seconds: how long it takes.
        priority: higher goes first.
        after: the part of the same cell that it waits for; None if it can start at once.
    """

    cell: str
    part: str
    gpus: int
    seconds: float
    priority: int
    after: str | None = None


@dataclass(frozen=True)
class Span:
    """When a job runs, in seconds from the beginning."""

    job: Job
    start: float
    end: float


def schedule(jobs: Sequence[Job], gpus: int) -> list[Span]:
    """Every job's span.

    Args:
        jobs: those that are still to run; one whose `after` is not among them can start at once.
        gpus: devices there are.

    Raises:
        ValueError: a job wants more GPUs than there are.
    """
    too_many = [job for job in jobs if job.gpus > gpus]
    if too_many:
        raise ValueError(f"{too_many[0].cell} needs {too_many[0].gpus} GPUs, but there are {gpus}")
    state = _Machine(gpus)
    waiting = {(job.cell, job.part) for job in jobs}
    state.ready = [job for job in jobs if (job.cell, job.after) not in waiting]
    followers = [job for job in jobs if (job.cell, job.after) in waiting]
    by_parent: dict[tuple[str, str | None], list[Job]] = {}
    for job in followers:
        by_parent.setdefault((job.cell, job.after), []).append(job)
    while state.ready or state.running:
        state.start()
        for job in state.next_to_end():
            state.ready += by_parent.get((job.cell, job.part), [])
    return state.spans


def length(spans: Sequence[Span]) -> float:
    """Seconds until the last job ends."""
    return max((span.end for span in spans), default=0.0)


def most_at_once(spans: Sequence[Span], weight: dict[str, float]) -> list[str]:
    """The cells under way at the time when their weights add up to most.

    Args:
        spans: of trainings.
        weight: of each cell.
    """
    best: list[str] = []
    for moment in {span.start for span in spans}:
        there = [span.job.cell for span in spans if span.start <= moment < span.end]
        if sum(weight[cell] for cell in there) > sum(weight[cell] for cell in best):
            best = there
    return best


@dataclass
class _Machine:
    free: int
    now: float = 0.0
    cpu_is_busy: bool = False
    ready: list[Job] = field(default_factory=list)
    running: list[tuple[float, int, Job]] = field(default_factory=list)  # a heap; the number parts equal ends
    spans: list[Span] = field(default_factory=list)

    def start(self) -> None:
        """Start what may: GPU jobs in order until one does not fit, and one job on the CPU."""
        self.ready.sort(key=lambda job: (-job.priority, job.cell, job.part))
        left, holding = [], False
        for job in self.ready:
            fits = not self.cpu_is_busy if not job.gpus else not holding and job.gpus <= self.free
            if fits:
                self._begin(job)
            else:
                left.append(job)
                holding = holding or job.gpus > 0
        self.ready = left

    def _begin(self, job: Job) -> None:
        self.free -= job.gpus
        self.cpu_is_busy = self.cpu_is_busy or not job.gpus
        span = Span(job, self.now, self.now + job.seconds)
        heapq.heappush(self.running, (span.end, len(self.spans), job))
        self.spans.append(span)

    def next_to_end(self) -> list[Job]:
        """Go on to when the next job ends; the jobs that end then."""
        self.now = self.running[0][0]
        ended = []
        while self.running and self.running[0][0] <= self.now:
            _, _, job = heapq.heappop(self.running)
            self.free += job.gpus
            self.cpu_is_busy = self.cpu_is_busy and job.gpus > 0
            ended.append(job)
        return ended
