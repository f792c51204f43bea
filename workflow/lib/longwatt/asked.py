"""What Snakemake was asked, by its options: whether jobs run, files are written, devices are leased."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longwatt.processes import RUN, identified
from longwatt.provenance import ANEW

# Options of Snakemake's with which it runs no job.
NO_JOBS = ("lint", "unlock", "list_rules", "list_target_rules", "summary", "detailed_summary", "dag", "rulegraph",
           "filegraph", "d3dag")  # fmt: skip
TELLING = {"partial", "plan", "compare"}  # targets that read what is there and train nothing
LASTING = (
    "finetune",
    "predict",
    "record_exits",
)  # rules whose jobs keep what they have done so far


def fetches(asked: Mapping[str, Any]) -> bool:
    """Whether Snakemake may be about to fetch something from the hub."""
    return runs_jobs(asked) and not only_tells(asked)


def reports_only(asked: Mapping[str, Any]) -> bool:
    """Whether Snakemake was asked for a report of what is there, without running anything.

    Args:
        asked: Snakemake's options by name, those of its profiles included; here and below.
    """
    return bool(asked.get("report")) and not asked.get("report_after_run")


def runs_jobs(asked: Mapping[str, Any]) -> bool:
    """Whether Snakemake was asked for jobs (if only to list them in a dry run), not for what it knows."""
    return not (reports_only(asked) or any(asked.get(name) for name in NO_JOBS))


def only_looks(asked: Mapping[str, Any]) -> bool:
    """Whether Snakemake was asked for something that writes no results."""
    return not runs_jobs(asked) or bool(asked.get("dryrun"))


def believes_files(asked: Mapping[str, Any]) -> bool:
    """Tell whether Snakemake was asked to take what is there as current, so that it must be judged before.

    Touched files would count as made by what is in force, and a report after a run is made without another look.
    """
    touched = asked.get("executor") == "touch" or asked.get("touch")
    return bool(touched or asked.get("report_after_run"))


def leases_gpus(asked: Mapping[str, Any]) -> bool:
    """Whether jobs with GPUs may run: in all that runs jobs but only tells (`only_tells`)."""
    return runs_jobs(asked) and not only_tells(asked)


def only_tells(asked: Mapping[str, Any]) -> bool:
    """Whether Snakemake was asked only to tell what there is or would be: for that no data need be here."""
    return bool(asked.get("targets")) and set(asked["targets"]) <= TELLING


def on_cluster(asked: Mapping[str, Any]) -> bool:
    """Whether jobs are handed to another scheduler, which knows what GPUs there are."""
    return asked.get("executor") not in (None, "local", "dryrun", "touch")


def job_environment(asked: Mapping[str, Any]) -> dict[str, str]:
    """What jobs must know of what Snakemake was asked: who asked, and whether to train or predict anew.

    A job that is made again for any other reason (Snakemake died before it recorded it, its outputs were deleted)
    takes what its work folder still holds.
    """
    everything = asked.get("forceall") or asked.get("force")
    named = asked.get("forcerun") or ()
    chosen = [
        rule for rule in LASTING if everything or any(rule in Path(name).parts for name in named)
    ]
    anew = {ANEW: f"{os.getpid()}-{time.time_ns()}:{' '.join(chosen)}"} if chosen else {}
    return {RUN: identified(os.getpid()), **anew}
