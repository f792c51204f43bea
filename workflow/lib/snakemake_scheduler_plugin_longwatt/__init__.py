"""Provide Snakemake's `--scheduler longwatt`.

The most urgent jobs go first, and GPUs are held back for jobs that need many. Snakemake finds the
plugin by the name of this package. The decision itself is in `policy`.
"""

# No postponed annotations here: Snakemake reads the types of the settings as types.
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from snakemake_interface_scheduler_plugins.base import SchedulerBase
from snakemake_interface_scheduler_plugins.settings import SchedulerSettingsBase

from snakemake_scheduler_plugin_longwatt.policy import GPU, Need, choose

__all__ = ["Scheduler", "SchedulerSettings"]


@dataclass
class SchedulerSettings(SchedulerSettingsBase):  # type: ignore[misc]
    """Settings of a command line or a profile: `--scheduler-longwatt-patience-s`."""

    patience_s: int = field(
        default=600,  # data take minutes; a download that hangs must not keep all GPUs idle
        metadata={
            "help": "Longest time in seconds that free GPUs are held back for a job of many GPUs "
            "whose inputs are still being made. 0 holds none back before it is ready.",
        },
    )


class Scheduler(SchedulerBase):  # type: ignore[misc]
    """A scheduler that chooses among the ready jobs each time that one ends, by `policy.choose`."""

    _held_for: Any = None
    _held_since: float = 0.0

    def select_jobs(
        self,
        selectable_jobs: Sequence[Any],
        remaining_jobs: Sequence[Any],
        available_resources: Mapping[str, int | str],
        input_sizes: Mapping[Any, int | None],
    ) -> list[Any]:
        """Return the jobs to start now, which may be none only while others run.

        Args:
            selectable_jobs: ready jobs, single or grouped.
            remaining_jobs: ready and unready jobs, without those that failed or run.
            available_resources: what running jobs leave of every limited resource.
            input_sizes: bytes of the inputs (unused).
        """
        # Jobs come as a set: equal priorities then go by name, not by chance.
        jobs = sorted(selectable_jobs, key=lambda job: sorted(map(str, job.output)))
        needs = [Need(job.priority, job.scheduler_resources) for job in jobs]
        coming = self._coming(set(_single(jobs)), remaining_jobs)
        return [jobs[index] for index in self._choose(needs, available_resources, coming)]

    def _choose(
        self, needs: Sequence[Need], free: Mapping[str, int | str], coming: Any | None
    ) -> list[int]:
        """Choose jobs to start, holding GPUs for a coming job while patience lasts."""
        plain = choose(needs, free)
        if coming is None:
            return plain
        held = choose(needs, free, Need(coming.priority, {GPU: coming.resources[GPU]}))
        return held if len(held) == len(plain) or self._is_patient(coming) else plain

    def _is_patient(self, coming: Any) -> bool:
        """Return whether GPUs have been withheld for this job for a short time only."""
        patience_s = (self.settings or SchedulerSettings()).patience_s
        if coming is not self._held_for:
            self._held_for, self._held_since = coming, time.monotonic()
            self._look_again(patience_s)
        return time.monotonic() < self._held_since + patience_s

    def _look_again(self, delay_s: float) -> None:
        """Have Snakemake ask again later, though no job may have ended by then."""
        # Not in the interface of plugins: without it Snakemake asks when the next job ends.
        wake = getattr(getattr(self.dag.workflow.scheduler, "_open_jobs", None), "release", None)
        if wake:
            timer = threading.Timer(delay_s + 0.1, wake)
            timer.daemon = True
            timer.start()

    def _coming(self, ready: set[Any], remaining: Iterable[Any]) -> Any | None:
        """Find the most urgent job of several GPUs that is on its way.

        It is not ready, but waits only for jobs more urgent than itself.
        """
        waiting = set(remaining)
        # A job that has started never waits again.
        self._wide = [job for job in self._wide if job in waiting]
        unready = [job for job in self._wide if job not in ready]
        if not unready:
            return None
        alive = waiting | set(_single(self.dag.workflow.scheduler.running))
        unfinished = set(self.dag.needrun_jobs())
        found = (job for job in unready if self._on_its_way(job, unfinished, alive))
        return next(found, None)

    @cached_property
    def _wide(self) -> list[Any]:
        """Jobs of several GPUs, most urgent first."""
        # Not `scheduler_resources`: asked of a job that is not ready, they would be fixed before
        # its inputs are known.
        leasing = [job for job in self.dag.needrun_jobs() if GPU in job.rule.resources]
        given = [(job, job.resources.get(GPU)) for job in leasing]
        wide = [job for job, wanted in given if isinstance(wanted, int) and wanted > 1]
        return sorted(wide, key=lambda job: -job.priority)

    def _on_its_way(self, job: Any, unfinished: set[Any], alive: set[Any]) -> bool:
        """Return whether a job waits only for more urgent jobs that have not failed."""
        awaited = [other for other in self.dag.job_dependencies(job) if other in unfinished]
        seen: set[Any] = set()
        while awaited:
            other = awaited.pop()
            if other not in alive or other.priority <= job.priority:
                return False
            seen.add(other)
            awaited += [
                o for o in self.dag.job_dependencies(other) if o in unfinished and o not in seen
            ]
        return bool(seen)


def _single(jobs: Iterable[Any]) -> list[Any]:
    """List jobs, those of groups one by one."""
    return [single for job in jobs for single in (job.jobs if job.is_group() else [job])]
