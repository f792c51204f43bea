"""Gather how far a study is, what failed and when it ends, from files alone.

Other processes, also on other nodes, may run the study meanwhile. Nothing is locked or written.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from longwatt.energy.meters import rapl
from longwatt.files import read_object
from longwatt.freshness.in_force import InForce
from longwatt.gpus import listing
from longwatt.plan import cell_cores, urgency
from longwatt.processes import is_alive
from longwatt.progress_record import FILE, INTERRUPTED_WORD, STOPPED_WORD
from longwatt.provenance.stamps import Stage, agrees
from longwatt.study.cells import FINETUNE, PREDICT, RECORD
from longwatt.study.stages import Stages
from longwatt.watch.announced import run_file
from longwatt.watch.job_progress import (
    CUT_OFF,
    OUT_OF_SIGHT,
    RUNNING,
    JobProgress,
    read_progress,
    work_folder,
)
from longwatt.watch.outlook import Outlook, PartKey, StudyClock
from longwatt.watch.rows import short_names

UNDER_WAY = (RUNNING, OUT_OF_SIGHT, CUT_OFF, STOPPED_WORD, INTERRUPTED_WORD)
# Rules of data and batch sizes, which cells share.
DATA_RULES = (
    "download_dataset", "download_model", "make_tokenizer", "tokenize_dataset", "probe_batch_size",
)  # fmt: skip


@dataclass(frozen=True)
class FailedJob:
    """A job that failed and has not been tried again since.

    Attributes:
        label: its name.
        message: what went wrong, and what to do.
        log: its log.
        wall_time_s: when it failed; None where the record does not say it.
    """

    label: str
    message: str
    log: str
    wall_time_s: float | None


@dataclass(frozen=True)
class RunState:
    """The newest run of Snakemake on a study.

    Attributes:
        alive: whether it runs; None if another machine has it, whose processes are not seen here.
        host: that machine.
        pid: its process there.
        began_s: wall time of its start.
    """

    alive: bool | None
    host: str
    pid: int
    began_s: float


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is at one moment.

    Attributes:
        study: its name.
        now_s: wall time.
        run: the newest run known; None if there was none since longwatt notes them.
        jobs: metered jobs that run, or that were cut off.
        left: by rule, how many of its jobs are still to run and how many there are.
        failed: jobs that failed.
        outlook: when it ends; None where it is finished.
        names: its cells' names as they are shown.
    """

    study: str
    now_s: float
    run: RunState | None
    jobs: Mapping[PartKey, JobProgress]
    left: Mapping[str, tuple[int, int]]
    failed: Sequence[FailedJob]
    outlook: Outlook | None
    names: Mapping[str, str]

    @cached_property
    def running(self) -> dict[PartKey, JobProgress]:
        """Return the jobs that run."""
        return {part: job for part, job in self.jobs.items() if job.state == RUNNING}

    @property
    def state(self) -> str:
        """Name the state: finished, running, unseen, stopped or not started."""
        if not any(count for count, _ in self.left.values()):
            return "finished"
        if self.running or (self.run and self.run.alive):
            return "running"
        if any(job.state == OUT_OF_SIGHT for job in self.jobs.values()):
            return "unseen"
        started = self.run or self.jobs or any(count < all_ for count, all_ in self.left.values())
        return "stopped" if started else "not started"


class StatusReader:
    """Reader of a study's status that keeps what does not change between two looks.

    Args:
        current: the study, and the code behind its jobs.
    """

    def __init__(self, current: InForce) -> None:
        self.current, self.stages = current, current.stages
        self.results = Path(self.stages.results)
        self._clock: StudyClock | None = None
        self._done: set[str] = set()  # artefacts that were in force once

    @property
    def clock(self) -> StudyClock:
        """Return the foreteller of the study's end, as if this machine ran what is left."""
        if self._clock is None:
            self._clock = here(self.stages)
        return self._clock

    def read(self, now: float | None = None) -> StudyStatus:
        """Look once."""
        moment = time.time() if now is None else now
        left, finished = self._left()
        jobs = self._jobs(moment)
        unfinished = any(count for count, _ in left.values())
        shown = {k: j for k, j in jobs.items() if j.state in UNDER_WAY and k not in finished}
        return StudyStatus(
            study=self.stages.study_id,
            now_s=moment,
            run=_run_state(self.stages.study_id),
            jobs=shown,
            left=left,
            failed=self._failed(),
            outlook=self.clock.outlook(finished, jobs) if unfinished else None,
            names=short_names(self.stages.cells),
        )

    def _left(self) -> tuple[dict[str, tuple[int, int]], set[PartKey]]:
        """Count the jobs left by rule, and find the parts of cells that are finished."""
        missing = {one.artefact for one in self.stages.all() if not self._in_force(one)}
        parts = self.clock.parts
        finished = {part for part in parts if artefact_of(self.stages, part) not in missing}
        cells = [one.artefact for one in self.stages.cell_stages()]
        # Data that were removed to free the disk are missed by nobody once all cells are finished.
        complete = missing.isdisjoint(cells)
        found: dict[str, tuple[int, int]] = {}
        for stage in self.stages.all():
            count, every = found.get(stage.rule, (0, 0))
            misses = stage.artefact in missing and not (complete and stage.rule in DATA_RULES)
            found[stage.rule] = (count + misses, every + 1)
        return found, finished

    def _in_force(self, stage: Stage) -> bool:
        """Check by its stamp whether an artefact is what a run would make."""
        if stage.artefact not in self._done:
            if not agrees(Path(stage.artefact), stage.settings, self.current.codes(stage)):
                return False
            self._done.add(stage.artefact)
        return Path(stage.artefact).exists()

    def _jobs(self, now: float) -> dict[PartKey, JobProgress]:
        found = {}
        for name, part in self.clock.parts:
            folder = work_folder(self.results, name, part)
            if (folder / FILE).exists():
                steps, every = self.clock.most_steps(name), self.clock.validates_every(name)
                if job := read_progress(folder, now, steps, every):
                    found[name, part] = job
        return found

    def _failed(self) -> list[FailedJob]:
        records = (
            read_object(path)
            for name in self.stages.cells
            for path in sorted((self.results / name / "work").glob("failure-*.json"))
        )
        return [
            FailedJob(
                str(one.get("label") or one.get("log")),
                str(one["message"]),
                str(one.get("log", "")),
                one.get("wall_time_s"),
            )
            for one in records
            if "message" in one
        ]


def here(stages: Stages) -> StudyClock:
    """Return the foreteller of a study's end, should this machine run what is left."""
    on_cpu, threads = 1, {}
    if not stages.uses_gpus:
        shared = cell_cores.of_study(stages, len(os.sched_getaffinity(0)), rapl.can_be_read())
        on_cpu, threads = shared.at_once, cell_cores.threads_of(stages, shared)
    gpus = len(listing.list_devices()) if stages.uses_gpus else 0
    return StudyClock(stages, urgency.runtimes(stages, threads), gpus, on_cpu)


def parts_in_force(current: InForce, clock: StudyClock) -> set[PartKey]:
    """Find the parts of cells that need not run, by their stamps."""
    found = set()
    for part in clock.parts:
        stage = _stage_of(current.stages, part)
        if agrees(Path(stage.artefact), stage.settings, current.codes(stage)):
            found.add(part)
    return found


def artefact_of(stages: Stages, part: PartKey) -> str:
    """Return the artefact that a part of a cell makes."""
    return _stage_of(stages, part).artefact


def _stage_of(stages: Stages, part: PartKey) -> Stage:
    name, kind = part
    if kind == FINETUNE:
        return stages.finetune(name)
    if kind == RECORD:
        return stages.record_exits(name)
    return stages.predict(name, kind.removeprefix(PREDICT))


def _run_state(study: str) -> RunState | None:
    noted = read_object(run_file(study))
    try:
        host, pid, began_s = str(noted["host"]), int(noted["pid"]), float(noted["began_s"])
        alive = is_alive(str(noted["run"])) if host == os.uname().nodename else None
    except (KeyError, TypeError, ValueError):
        return None
    return RunState(alive, host, pid, began_s)
