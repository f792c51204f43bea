"""Write a study's status as rows for a terminal, or as facts for programs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

from longwatt.watch.job_progress import RUNNING, JobProgress
from longwatt.watch.outlook import PartKey
from longwatt.watch.rows import ProgressRow, ago_words, job_row
from longwatt.watch.study_status import StudyStatus

STATE_WORDS = {
    "finished": "finished", "running": "running", "stopped": "not running, unfinished",
    "unseen": "not seen to run, unfinished", "not started": "not started",
}  # fmt: skip
MOST_FAILED = 10
MOST_CUT = 10  # jobs that were cut off, in the text
# Facts of a job for programs, in their order.
JOB_FACTS = (
    "label", "state", "phase", "done", "total", "groups_done", "groups", "loss", "score",
    "stale_validations", "at_most_s", "host",
)  # fmt: skip


def head_lines(status: StudyStatus) -> list[str]:
    """Say in a few lines how a study is and when it ends."""
    left = sum(count for count, _ in status.left.values())
    every = sum(count for _, count in status.left.values())
    lines = [
        f"{status.study}: {STATE_WORDS[status.state]}, {every - left} of {every} jobs done",
        *_run_lines(status),
    ]
    by_rule = [f"{rule} {count} of {all_}" for rule, (count, all_) in status.left.items() if count]
    if by_rule:
        lines.append(f"left: {', '.join(by_rule)}")
    return [*lines, *_end_lines(status)]


def _run_lines(status: StudyStatus) -> list[str]:
    run, running = status.run, len(status.running)
    if run is None:
        return []
    since = f"began {clock_words(run.began_s)}"
    if run.alive is None:
        return [f"its newest run is on {run.host} (process {run.pid}, {since}), not seen from here"]
    if run.alive:
        return [f"Snakemake runs it (process {run.pid}, {since})"]
    if running:
        jobs = "1 job of it still runs" if running == 1 else f"{running} jobs of it still run"
        return [f"its newest run ({since}) is over, but {jobs}"]
    on = "" if status.state == "finished" else "; the next one goes on"
    return [f"its newest run ({since}) is over{on}"]


def _end_lines(status: StudyStatus) -> list[str]:
    if status.outlook is None or status.state == "finished":
        return []
    seconds, latest = status.outlook.seconds, status.outlook.at_most_s
    if seconds <= 0:
        return []
    long = f", at most {ago_words(latest)}" if latest >= 1.2 * seconds else ""
    if status.state == "running":
        when = f"ends in about {ago_words(seconds)}{long}, {clock_words(status.now_s + seconds)}"
    else:
        when = f"what is left would take about {ago_words(seconds)}{long} on this machine"
    return [f"{when} (estimated: {status.outlook.basis})"]


def clock_words(wall_s: float) -> str:
    """Write a moment as the clock of this machine shows it."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(wall_s))


def job_rows(status: StudyStatus) -> list[ProgressRow]:
    """Describe the jobs that run, and then those that were cut off."""
    ordered = sorted(status.jobs.items(), key=lambda one: one[1].state != RUNNING)
    rows = [job_row(status.names[name], part, job, status.now_s) for (name, part), job in ordered]
    most = len(status.running) + MOST_CUT
    more = len(rows) - most
    return (
        rows if more <= 0 else [*rows[:most], ProgressRow(f"and {more} more", None, "", "", "dim")]
    )


def failed_lines(status: StudyStatus) -> Iterator[str]:
    """Say what failed, and where its log is."""
    for one in status.failed[:MOST_FAILED]:
        when = f" ({clock_words(one.wall_time_s)})" if one.wall_time_s else ""
        yield f"failed{when}: {one.label}: {one.message} (see {one.log})"
    if len(status.failed) > MOST_FAILED:
        yield f"and {len(status.failed) - MOST_FAILED} more failed"


def status_facts(status: StudyStatus) -> dict[str, Any]:
    """Return a status for programs. Times are in seconds, moments in seconds since 1970."""
    run, outlook = status.run, status.outlook
    return {
        "study": status.study,
        "state": status.state,
        "now_s": status.now_s,
        "run": run and {key: getattr(run, key) for key in ("alive", "host", "pid", "began_s")},
        "jobs": [_job_facts(part, job) for part, job in status.jobs.items()],
        "left": {rule: {"left": n, "of": every} for rule, (n, every) in status.left.items()},
        "failed": [
            {key: getattr(one, key) for key in ("label", "message", "log", "wall_time_s")}
            for one in status.failed
        ],
        "left_s": outlook and outlook.seconds,
        "left_at_most_s": outlook and outlook.at_most_s,
        "left_basis": outlook and f"estimated: {outlook.basis}",
    }


def _job_facts(part: PartKey, job: JobProgress) -> dict[str, Any]:
    facts = {name: _told(getattr(job, name)) for name in JOB_FACTS}
    best = {"best_step": job.best and job.best[0], "best_score": job.best and job.best[1]}
    return {"cell": part[0], "part": part[1], **facts, **best, "last_seen_s": job.seen_s}


def _told(value: Any) -> Any:
    """Return a value as JSON has it, which knows no infinite loss."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
