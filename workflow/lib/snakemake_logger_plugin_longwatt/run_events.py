"""Follow a run by Snakemake's events: its jobs, their number, failures."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class RunningJob:
    """A job that Snakemake has started.

    Attributes:
        rule: its rule.
        wildcards: their values by name.
        since: CLOCK_MONOTONIC seconds of its start.
    """

    rule: str
    wildcards: Mapping[str, str]
    since: float = field(default_factory=time.monotonic)

    @property
    def label(self) -> str:
        """Return its name for people."""
        shown = [value for name, value in self.wildcards.items() if name != "study"]
        return " ".join([self.rule, *shown])


class RunEvents:
    """The state of a run as its events tell it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Any, RunningJob] = {}
        self._running: dict[Any, RunningJob] = {}
        self.planned: dict[str, int] = {}  # by rule, before the first job
        self.done = self.total = self.failed = 0
        self.finished: list[RunningJob] = []

    def take(self, event: str, facts: Mapping[str, Any]) -> None:
        """Take one event in, with the fields of its record."""
        with self._lock:
            if event == "run_info":
                counts = facts.get("stats") or {}
                self.planned = {str(k): int(v) for k, v in counts.items() if k != "total"}
                self.total = sum(self.planned.values())
            elif event == "job_info":
                given = {str(k): str(v) for k, v in dict(facts.get("wildcards") or {}).items()}
                self._begin(facts.get("jobid"), RunningJob(str(facts.get("rule_name")), given))
            elif event == "job_finished":
                self._end(facts.get("job_id"))
            elif event == "job_error":
                self.failed += 1
                self._running.pop(facts.get("jobid"), None)
            elif event == "progress":
                self.done, self.total = int(facts["done"]), int(facts["total"])

    def _begin(self, number: Any, job: RunningJob) -> None:
        self._known[number] = self._running[number] = job

    def _end(self, number: Any) -> None:
        job = self._running.pop(number, None)
        if job is not None:
            self.finished.append(job)

    def running(self) -> list[RunningJob]:
        """Return the jobs that run now, the longest first."""
        with self._lock:
            return sorted(self._running.values(), key=lambda job: job.since)
