"""Snakemake's `--scheduler longwatt`: the most urgent jobs first, and GPUs held back for the one that waits for them.

Snakemake finds it by the name of this package. The decision itself is in `policy`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from snakemake_interface_scheduler_plugins.base import SchedulerBase

from snakemake_scheduler_plugin_longwatt.policy import Need, choose

__all__ = ["Scheduler"]


class Scheduler(SchedulerBase):  # type: ignore[misc]
    """Chooses among the ready jobs each time that one ends; see `policy.choose`."""

    def select_jobs(
        self,
        selectable_jobs: Sequence[Any],
        remaining_jobs: Sequence[Any],
        available_resources: Mapping[str, int | str],
        input_sizes: Mapping[Any, int | None],
    ) -> list[Any]:
        """The jobs to start now; may be empty only while others run.

        Args:
            selectable_jobs: ready jobs, single or grouped.
            remaining_jobs: ready and unready ones; not used.
            available_resources: what running jobs leave of every limited resource.
            input_sizes: bytes of the inputs; not used.
        """
        jobs = sorted(selectable_jobs, key=_name)  # they come as a set: equal priorities then go by name, not by chance
        needs = [Need(job.priority, job.scheduler_resources) for job in jobs]
        return [jobs[index] for index in choose(needs, available_resources)]


def _name(job: Any) -> list[str]:
    return sorted(map(str, job.output))
