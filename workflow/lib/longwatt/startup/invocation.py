"""Interpret Snakemake's options: are jobs run, files written, devices leased?"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from longwatt.jobs.pinning import BY_CLUSTER, PIN_VARIABLE
from longwatt.processes import RUN_VARIABLE, identified
from longwatt.provenance.stamps import ANEW

# Options with which Snakemake runs no job.
NO_JOBS = (
    "lint", "unlock", "list_rules", "list_target_rules", "summary", "detailed_summary", "dag",
    "rulegraph", "filegraph", "d3dag",
)  # fmt: skip
OF_RULES = ("targets", "forcerun")  # options that may name rules
TELLING = {"partial", "plan", "compare"}  # targets that read what is there and train nothing
LASTING = ("finetune", "predict", "record_exits")  # rules whose jobs keep what is done so far


def in_our_names(
    asked: Mapping[str, Any], ours: Mapping[str, str], rules: Collection[str]
) -> dict[str, Any]:
    """Give rules among Snakemake's options the names that they have here.

    Args:
        asked: Snakemake's options by name.
        ours: names here by those of the workflow that imports our rules, which may be others.
        rules: all names here. They are another workflow's rules where they stand for none of ours.
    """
    names = {**{name: f"{name} (another workflow's)" for name in rules}, **ours}
    named = {
        option: [names.get(str(name), name) for name in asked[option]]
        for option in OF_RULES
        if asked.get(option)
    }
    return {**asked, **named}


def reports_only(asked: Mapping[str, Any]) -> bool:
    """Return whether Snakemake was asked for a report without running anything.

    Args:
        asked: Snakemake's options by name, those of its profiles included (here and below).
    """
    return bool(asked.get("report")) and not asked.get("report_after_run")


def runs_jobs(asked: Mapping[str, Any]) -> bool:
    """Return whether Snakemake was asked for jobs, be it in a dry run."""
    return not (reports_only(asked) or any(asked.get(name) for name in NO_JOBS))


def only_looks(asked: Mapping[str, Any]) -> bool:
    """Return whether Snakemake was asked for something that writes no results."""
    return not runs_jobs(asked) or bool(asked.get("dryrun"))


def believes_files(asked: Mapping[str, Any]) -> bool:
    """Return whether Snakemake takes all files as current, so that they need a check.

    Touched files would count as made by what is in force, and a report after a run is made without
    another look.
    """
    touched = asked.get("executor") == "touch" or asked.get("touch")
    return bool(touched or asked.get("report_after_run"))


def leases_gpus(asked: Mapping[str, Any]) -> bool:
    """Return whether jobs may run that use GPUs or fetch from the hub."""
    return runs_jobs(asked) and not only_tells(asked)


def only_tells(asked: Mapping[str, Any]) -> bool:
    """Return whether Snakemake was asked only to report on a study, which needs no data."""
    return bool(asked.get("targets")) and set(asked["targets"]) <= TELLING


def uses_containers(asked: Mapping[str, Any]) -> bool:
    """Return whether jobs are to run inside a container (`--sdm apptainer`)."""
    methods = asked.get("software_deployment_method") or ()
    return any(str(getattr(method, "name", method)).lower() == "apptainer" for method in methods)


def on_cluster(asked: Mapping[str, Any]) -> bool:
    """Return whether another scheduler runs the jobs, which knows the GPUs itself."""
    return asked.get("executor") not in (None, "local", "dryrun", "touch")


def binding_environment(on_cluster: bool) -> dict[str, str]:
    """Return the environment that leaves binding to cores to a cluster, or to longwatt itself."""
    return {PIN_VARIABLE: BY_CLUSTER} if on_cluster else {}


def job_environment(asked: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment that tells jobs who asked, and whether to train or predict anew.

    A job that is made again for any other reason (Snakemake died before it recorded it, its outputs
    were deleted) takes what its work folder still holds.
    """
    everything = asked.get("forceall") or asked.get("force")
    named = {part for name in asked.get("forcerun") or () for part in Path(name).parts}
    chosen = [rule for rule in LASTING if everything or rule in named]
    anew = {ANEW: f"{os.getpid()}-{time.time_ns()}:{' '.join(chosen)}"} if chosen else {}
    return {RUN_VARIABLE: identified(os.getpid()), **anew}
