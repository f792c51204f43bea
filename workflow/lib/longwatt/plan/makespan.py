"""Simulate when a study's jobs start and end on so many GPUs.

The order is that of `longwatt.plan.urgency`. GPUs are held back for the most urgent job that does
not fit, as the scheduler does. So many jobs on the CPU run at once as have cores. Data are there
and starting a job takes no time.
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
    """Start and end of a job, in seconds from the beginning."""

    job: Job
    start: float
    end: float


def schedule(jobs: Sequence[Job], gpus: int, on_cpu: int = 1) -> list[Span]:
    """Simulate every job's span.

    Args:
        jobs: those that are still to run; one whose `after` is not among them can start at once.
        gpus: devices there are.
        on_cpu: most jobs on the CPU at once.

    Raises:
        ValueError: a job wants more GPUs than there are.
    """
    too_many = [job for job in jobs if job.gpus > gpus]
    if too_many:
        raise ValueError(f"{too_many[0].cell} needs {too_many[0].gpus} GPUs, but there are {gpus}")
    waiting = {(job.cell, job.part) for job in jobs}
    followers: dict[tuple[str, str | None], list[Job]] = {}
    state = _Machine(gpus, on_cpu)
    for job in jobs:
        if (job.cell, job.after) in waiting:
            followers.setdefault((job.cell, job.after), []).append(job)
        else:
            state.add(job)
    while state.start() or state.running:
        for ended in state.next_to_end():
            for job in followers.get((ended.cell, ended.part), ()):
                state.add(job)
    return state.spans


def length(spans: Sequence[Span]) -> float:
    """Return the seconds until the last job ends."""
    return max((span.end for span in spans), default=0.0)


def most_at_once(spans: Sequence[Span], weight: dict[str, float]) -> list[str]:
    """List the cells under way when their weights add up to most.

    Args:
        spans: of trainings.
        weight: of each cell.
    """
    # What ends makes room for what starts at the same time.
    ends, starting = [(s.end, False, s) for s in spans], [(s.start, True, s) for s in spans]
    events = sorted(ends + starting, key=lambda event: event[:2])
    most, now, best, there = 0.0, 0.0, list[str](), list[str]()
    for _, starts, span in events:
        cell = span.job.cell
        now += weight[cell] if starts else -weight[cell]
        there = [*there, cell] if starts else [other for other in there if other != cell]
        if now > most:
            most, best = now, there
    return best


Queue = list[tuple[int, str, str, Job]]  # a heap, most urgent first; equals by name


@dataclass
class _Machine:
    free: int
    free_on_cpu: int
    now: float = 0.0
    for_gpus: Queue = field(default_factory=list)
    for_cpu: Queue = field(default_factory=list)
    # A heap, in which the number parts equal ends.
    running: list[tuple[float, int, Job]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    def add(self, job: Job) -> None:
        """Queue a job that can start from now on."""
        queue = self.for_gpus if job.gpus else self.for_cpu
        heapq.heappush(queue, (-job.priority, job.cell, job.part, job))

    def start(self) -> bool:
        """Start jobs in order while they fit, those with GPUs first."""
        before = len(self.spans)
        while self.for_gpus and self.for_gpus[0][-1].gpus <= self.free:
            self._begin(heapq.heappop(self.for_gpus)[-1])
        while self.for_cpu and self.free_on_cpu:
            self._begin(heapq.heappop(self.for_cpu)[-1])
        return len(self.spans) > before

    def _begin(self, job: Job) -> None:
        self.free -= job.gpus
        self.free_on_cpu -= not job.gpus
        span = Span(job, self.now, self.now + job.seconds)
        heapq.heappush(self.running, (span.end, len(self.spans), job))
        self.spans.append(span)

    def next_to_end(self) -> list[Job]:
        """Go on to the next end and return the jobs that end then."""
        self.now = self.running[0][0]
        ended = []
        while self.running and self.running[0][0] <= self.now:
            ended.append(heapq.heappop(self.running)[-1])
        self.free += sum(job.gpus for job in ended)
        self.free_on_cpu += sum(not job.gpus for job in ended)
        return ended
