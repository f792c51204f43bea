"""Foretell when a study ends, by the plan's run times and its own jobs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from longwatt.plan import makespan
from longwatt.plan import urgency as plan_urgency
from longwatt.plan.makespan import Job
from longwatt.plan.runtimes import RuntimeModel
from longwatt.plan.work import most_steps
from longwatt.progress_record import DONE
from longwatt.study.cells import FINETUNE, PREDICT, RECORD
from longwatt.study.model_settings import initial_weights
from longwatt.study.stages import Stages
from longwatt.watch.job_progress import RUNNING, JobProgress

PartKey = tuple[str, str]  # a cell, and "finetune", "predict/{inference}" or "exits"
RUNS_ALREADY = 10**9  # urgency of jobs that run already


@dataclass(frozen=True)
class Outlook:
    """An estimate of the time that is left.

    Attributes:
        seconds: until the last training or prediction ends; None if nothing is known of it.
        at_most_s: likewise if no training stops early.
        measured: jobs of this study that corrected the plan's run times.
    """

    seconds: float
    at_most_s: float
    measured: int

    @property
    def basis(self) -> str:
        """Return what the estimate rests on."""
        if not self.measured:
            return "the plan's run times, none measured yet"
        jobs = "job" if self.measured == 1 else "jobs"
        return f"the plan's run times, corrected by {self.measured} {jobs} of this study"


@dataclass
class Correction:
    """Correct the plan by a factor of its seconds, and by seconds around them.

    Args:
        foretold: returns the seconds of a part by the plan.
        at_most: likewise if a training does not stop early.
    """

    foretold: Callable[[PartKey], float]
    at_most: Callable[[PartKey], float]
    _ratios: dict[str, list[float]] = field(default_factory=dict)
    _around: dict[str, list[float]] = field(default_factory=dict)
    _known: set[PartKey] = field(default_factory=set)
    _running: dict[str, list[float]] = field(default_factory=dict)

    def compare(self, jobs: Mapping[PartKey, JobProgress]) -> None:
        """Learn for the moment from unfinished jobs, for kinds of which none has ended."""
        self._running = {}
        for part, job in jobs.items():
            if job.state != DONE and job.at_most_s is not None and part[1] not in self._ratios:
                whole = (job.computed_s + job.at_most_s) / max(1e-3, self.at_most(part))
                self._running.setdefault(part[1], []).append(math.log(max(1e-6, whole)))

    def add(self, part: PartKey, job: JobProgress) -> None:
        """Learn from an ended job, once, if it made its part in one attempt."""
        whole = job.state == DONE and job.facts.get("first_step") == 0
        if part in self._known or not whole or job.job_s is None or job.computed_s <= 0:
            return
        self._known.add(part)
        kind = part[1]
        ratio = job.computed_s / max(1e-3, self.foretold(part))
        self._ratios.setdefault(kind, []).append(math.log(ratio))
        self._around.setdefault(kind, []).append(max(0.0, job.job_s - job.computed_s))

    @property
    def count(self) -> int:
        """Return the number of jobs that it learns from."""
        return len(self._known) + sum(map(len, self._running.values()))

    def factor(self, kind: str) -> float:
        """Return the mean factor of one kind of part, or of those most like it."""
        return math.exp(statistics.fmean(_like({**self._running, **self._ratios}, kind) or [0.0]))

    def around_s(self, kind: str) -> float:
        """Return the seconds for which a job of one kind starts and ends, likewise."""
        return statistics.median(_like(self._around, kind) or [0.0])


def _like(known: Mapping[str, list[float]], kind: str) -> list[float]:
    """Return the values of a kind, else of all predictions for a prediction."""
    if kind in known or kind == FINETUNE:
        return known.get(kind, [])
    return [value for name, values in known.items() if name != FINETUNE for value in values]


class StudyClock:
    """Foreteller of one study's end.

    Args:
        stages: the study's.
        runtimes: the plan's.
        gpus: devices that its jobs share.
        on_cpu: most jobs on the CPU at once.
    """

    def __init__(self, stages: Stages, runtimes: RuntimeModel, gpus: int, on_cpu: int) -> None:
        self.stages, self.runtimes = stages, runtimes
        largest = max((stages.gpus(name) for name in stages.cells), default=0)
        self.gpus, self.on_cpu = max(gpus, largest), max(1, on_cpu)
        self.correction = Correction(self.foretold, self.foretold_at_most)
        self._most: dict[str, int] = {}
        self._with_exits = frozenset(stages.with_exits)

    @cached_property
    def parts(self) -> list[PartKey]:
        """Every training, recording of exits and prediction, in the order of the flow."""
        found = []
        for name in self.stages.cells:
            trained, *predicted = self.stages.parts(name)
            records = [RECORD] if name in self._with_exits else []
            found += [(name, part) for part in [trained, *records, *predicted] if part]
        return list(dict.fromkeys(found))

    def foretold(self, part: PartKey) -> float:
        """Return the plan's seconds of a part."""
        return self.runtimes.predict(*part).seconds

    def foretold_at_most(self, part: PartKey) -> float:
        """Return the plan's seconds of a part that does not stop early."""
        return self.runtimes.at_most(*part).seconds

    def most_steps(self, name: str) -> int:
        """Return the steps of a training that does not stop early."""
        if name not in self._most:
            data = self.runtimes.data[self.stages.cells[name].dataset]
            self._most[name] = int(most_steps(self.runtimes.chosen(name, FINETUNE), data))
        return self._most[name]

    def validates_every(self, name: str) -> int:
        """Return the steps from one validation of a training to the next."""
        return int(self.stages.finetune(name).settings["training"]["validation"]["every_steps"])

    def seconds(self, part: PartKey, at_most: bool = False) -> float:
        """Return the corrected seconds of a whole job that has not begun."""
        foretold = self.foretold_at_most(part) if at_most else self.foretold(part)
        kind = part[1]
        return foretold * self.correction.factor(kind) + self.correction.around_s(kind)

    def left_of(self, part: PartKey, job: JobProgress, at_most: bool = False) -> float:
        """Return the seconds that a job that has begun will still take.

        Its own pace counts, and the plan's seconds before it has one. A training ends at its last
        step at the latest. Where it may stop early, the plan's assumption gives its last step.
        """
        if job.at_most_s is None:
            return max(0.0, self.seconds(part, at_most) - job.computed_s)
        share = 1.0
        if part[1] == FINETUNE and not at_most and job.total and job.done is not None:
            left = job.total - job.done
            share = (self._last_step(part[0], job) - job.done) / left if left > 0 else 1.0
        return share * job.at_most_s + self.correction.around_s(part[1]) / 2

    def _last_step(self, name: str, job: JobProgress) -> float:
        """Return the step by which half of the trainings that came so far have stopped.

        This is the assumption of `longwatt.plan.work.median_steps`: each doubling of the steps is
        as likely to see the stop as any other.
        """
        done, total = int(job.done or 0), int(job.total or 0)
        every, patience = self.validates_every(name), self._patience(name)
        checks = max(1, patience - job.stale_validations + (job.best is None))
        first = (done // every + checks) * every
        return math.sqrt(min(first, total) * total)

    def _patience(self, name: str) -> int:
        return int(self.stages.finetune(name).settings["training"]["validation"]["patience"])

    def outlook(
        self, finished: Collection[PartKey], jobs: Mapping[PartKey, JobProgress]
    ) -> Outlook:
        """Foretell the end of what is left.

        Args:
            finished: parts that need not run.
            jobs: the progress of those that run, were cut off or have ended.
        """
        for part, job in jobs.items():
            self.correction.add(part, job)
        self.correction.compare({part: job for part, job in jobs.items() if part not in finished})
        left = [part for part in self.parts if part not in finished]
        spans = [self._length(left, jobs, at_most) for at_most in (False, True)]
        return Outlook(spans[0], max(spans), self.correction.count)

    def _length(
        self, left: Sequence[PartKey], jobs: Mapping[PartKey, JobProgress], at_most: bool
    ) -> float:
        simulated = [self._job(part, jobs.get(part), at_most) for part in left]
        return makespan.length(makespan.schedule(simulated, self.gpus, self.on_cpu))

    def _job(self, part: PartKey, job: JobProgress | None, at_most: bool) -> Job:
        (name, kind), gpus = part, self.stages.gpus(part[0])
        seconds = self.seconds(part, at_most)
        if job is not None and job.state != DONE:
            seconds = self.left_of(part, job, at_most)
            if job.state == RUNNING:
                return Job(name, kind, gpus, seconds, RUNS_ALREADY)
            seconds += self.correction.around_s(kind) / 2  # it starts once more
        predicts = kind.startswith(PREDICT)
        urgency = plan_urgency.of_cell(gpus, seconds, trained=predicts)
        return Job(name, kind, gpus, seconds, urgency, self._after(name, kind))

    def _after(self, name: str, kind: str) -> str | None:
        """Name the part of the same cell that one waits for."""
        if kind == FINETUNE or (
            kind != RECORD and initial_weights(self.stages.inference(name, _point(kind)))
        ):
            return None
        return RECORD if kind != RECORD and name in self._with_exits else FINETUNE


def _point(part: str) -> str:
    return part.removeprefix(PREDICT)
