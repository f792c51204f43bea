"""Make projects whose jobs only lease, sleep and write empty results, to study scheduling.

Snakemake, the Snakefile, the rules, the profiles and the leases are the real ones. The jobs read,
from the environment,

    STAND_IN_PLAN   a JSON file {"seconds": {KEY: seconds}, "fail": [KEY, ...]}. A KEY is "RULE
                    NAME", where NAME is the cell (or, for a job of no cell, its wildcards joined by
                    "/"); in `seconds` also a "RULE" alone, for all its jobs. Others take 0.1 s.
    STAND_IN_LOG    a file that gets two JSON lines a job: rule, cell (the NAME), event ("start"
                    once its GPUs are leased, "end" before it exits), time and process_start (both
                    seconds since the epoch), uuids (of the leased GPUs), job_id (Slurm's or null).

The GPUs are those that `pynvml` shows. `bench.stand_in_gpus.environment` shows as many as you like.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bench.project import copy_project

SCRIPT = Path(__file__).with_name("stand_in_job.py")


def make_project(root: Path, target: Path) -> None:
    """Copy a project, with stand-ins for its scripts and without studies.

    Args:
        root: the repository.
        target: a folder that does not exist yet.
    """
    copy_project(root, target)
    for script in (target / "workflow" / "scripts").glob("*.py"):
        shutil.copyfile(SCRIPT, script)


def write_plan(path: Path, seconds: Mapping[str, float | str], fail: Collection[str] = ()) -> None:
    """Write how long jobs take (or which file they await) and which fail."""
    path.write_text(json.dumps({"seconds": dict(seconds), "fail": sorted(fail)}), encoding="utf-8")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return what the jobs wrote down, in order of writing."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
