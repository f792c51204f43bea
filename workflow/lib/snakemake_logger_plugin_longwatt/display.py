"""Draw a run's progress: a line for each long job, and one for the study."""

from __future__ import annotations

import io
import time
from pathlib import Path

from rich.console import Console

from longwatt.study.cells import FINETUNE, PREDICT, RECORD
from longwatt.watch.announced import Announced, announced
from longwatt.watch.drawing import ProgressRows
from longwatt.watch.job_progress import JobProgress, read_progress, work_folder
from longwatt.watch.outlook import Outlook, PartKey, StudyClock
from longwatt.watch.rows import ProgressRow, ago_words, job_row, short_names
from longwatt.watch.study_status import parts_in_force
from snakemake_logger_plugin_longwatt.run_events import RunEvents, RunningJob

ESTIMATE_EVERY_S = 5.0
SHOWN_AFTER_S = 3.0  # jobs without a record that are over sooner need no line
MOST_ROWS = 12
KEPT_ROWS = 6  # of the terminal, for what is above


def part_of(job: RunningJob) -> PartKey | None:
    """Return the part of a cell that a job makes, None for another job."""
    cell, point = job.wildcards.get("cell", ""), job.wildcards.get("inference", "")
    parts = {"finetune": FINETUNE, "predict": PREDICT + point, "record_exits": RECORD}
    return (cell, parts[job.rule]) if cell and job.rule in parts else None


class Display:
    """The lines of a run.

    Args:
        events: what Snakemake says.
        no_colour: whether to draw without colours.
    """

    def __init__(self, events: RunEvents, no_colour: bool) -> None:
        self._events, self._no_colour = events, no_colour
        self._clock: StudyClock | None = None
        self._before: set[PartKey] = set()  # finished before this run
        self._outlook: Outlook | None = None
        self._foretold_at = 0.0
        self._ended: dict[PartKey, JobProgress] = {}
        self._names: dict[str, str] = {}

    def lines(self, columns: int, rows: int) -> list[tuple[bytes, int]]:
        """Return the lines for a terminal of some columns and rows."""
        if not (found := self.rows()):
            return []
        *jobs, study = found
        most = max(1, min(MOST_ROWS, rows - KEPT_ROWS))
        if hidden := len(jobs) - most:
            more = ProgressRow(f"and {hidden + 1} more jobs", None, "", "", "dim")
            jobs = [*jobs[: most - 1], more] if hidden > 0 else jobs
        return drawn([*jobs, study], columns, self._no_colour)

    def rows(self) -> list[ProgressRow]:
        """Describe the jobs that run, and the study below them, nothing before the first job."""
        study = announced()
        if study is None or not self._events.total:
            return []
        stages = study.current.stages
        self._names = self._names or short_names(stages.cells)
        results = Path(stages.results)
        jobs = [(job, self._read(job, results)) for job in self._events.running()]
        known = {part: found for job, found in jobs if found and (part := part_of(job))}
        self._foretell(study, results, known)
        rows = [row for job, found in jobs if (row := self._row(job, found))]
        return [*rows, self._study_row(stages.study_id)]

    def _read(self, job: RunningJob, results: Path) -> JobProgress | None:
        """Read the record of a job, None where it has none of its own yet."""
        part = part_of(job)
        if part is None:
            return None
        steps = every = None
        if self._clock and part[1] == FINETUNE:
            steps, every = self._clock.most_steps(part[0]), self._clock.validates_every(part[0])
        found = read_progress(work_folder(results, *part), steps=steps, every=every)
        # What an earlier attempt left is no progress of this job.
        began = time.time() - (time.monotonic() - job.since)
        fresh = found is not None and float(found.facts["began_s"]) >= began - SHOWN_AFTER_S
        return found if fresh else None

    def _row(self, job: RunningJob, progress: JobProgress | None) -> ProgressRow | None:
        part, cell = part_of(job), job.wildcards.get("cell", "")
        shown = self._names.get(cell, cell)
        if progress and part:
            return job_row(shown, part[1], progress, time.time())
        ran_s = time.monotonic() - job.since
        if ran_s < SHOWN_AFTER_S:
            return None
        label = job.label.replace(cell, shown) if cell else job.label
        return ProgressRow(label, None, f"runs {ago_words(ran_s)}", "", "dim")

    def _study_row(self, name: str) -> ProgressRow:
        done, total, failed = self._events.done, self._events.total, self._events.failed
        left_s = 0.0
        if self._outlook:
            left_s = self._outlook.seconds - (time.monotonic() - self._foretold_at)
        words = f"{done} of {total} jobs"
        if failed:
            words += f", {failed} failed"
        elif left_s > 0:
            words += ", end estimated"
        left = f"≈ {ago_words(left_s)}" if left_s > 0 else ""
        return ProgressRow(name, done / total, words, left, "bad" if failed else "")

    def _foretell(
        self, study: Announced, results: Path, running: dict[PartKey, JobProgress]
    ) -> None:
        """Foretell the end from time to time, if this run makes all that is left."""
        if study.clock is None or time.monotonic() - self._foretold_at < ESTIMATE_EVERY_S:
            return
        if self._clock is None:
            self._clock = study.clock()
            self._before = parts_in_force(study.current, self._clock)
        self._outlook, self._foretold_at = None, time.monotonic()
        if not self._runs_all(self._clock):
            return
        made = {part for job in list(self._events.finished) if (part := part_of(job))}
        for part in made - set(self._ended):
            if ended := read_progress(work_folder(results, *part)):
                self._ended[part] = ended
        self._outlook = self._clock.outlook(self._before | made, {**self._ended, **running})

    def _runs_all(self, clock: StudyClock) -> bool:
        """Check that Snakemake planned as many jobs as are left of the study."""
        left = [kind for part, kind in clock.parts if (part, kind) not in self._before]
        trained = sum(kind == FINETUNE for kind in left)
        predicted = sum(kind.startswith(PREDICT) for kind in left)
        planned = self._events.planned
        return (planned.get("finetune", 0), planned.get("predict", 0)) == (trained, predicted)


def drawn(rows: list[ProgressRow], width: int, no_colour: bool) -> list[tuple[bytes, int]]:
    """Return lines of a terminal for some rows, each with its columns.

    The last column stays free: some terminals wrap a line that reaches it.
    """
    stream = io.StringIO()
    console = Console(
        file=stream, width=width - 1, force_terminal=True, color_system="standard",
        no_color=no_colour or None, highlight=False, legacy_windows=False,
    )  # fmt: skip
    console.print(ProgressRows(rows), end="")
    lines = stream.getvalue().splitlines()
    return [(line.encode(), width - 1) for line in lines]
