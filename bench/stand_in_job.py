"""Stand in for every rule's script: lease GPUs, sleep as planned, write outputs.

`bench.stand_in_stages` copies this file over each script of a project's copy, so it runs as a
script of Snakemake.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from longwatt.gpus import leases
from longwatt.processes import TICKS_PER_S, started
from longwatt.provenance.stamps import stamp

METERED = ("probe_batch_size", "finetune", "predict")  # the rules whose jobs lease GPUs
SECONDS = 0.1  # of a job that the plan does not name


def process_start() -> float:
    """Return when this process began, in seconds since the epoch."""
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - (started(os.getpid()) or 0) / TICKS_PER_S
    return time.time() - age


def name_of(wildcards: Mapping[str, str]) -> str:
    """Return a job's cell or, for a job of no cell, its other wildcards."""
    known = {key: value for key, value in wildcards.items() if key != "study"}
    return known.get("cell") or "/".join(known.values())


def read_plan() -> dict[str, Any]:
    """Read how long jobs take and which fail (see `bench.stand_in_stages`)."""
    path = os.environ.get("STAND_IN_PLAN")
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}


def record(**facts: Any) -> None:
    """Append a line to the jobs' log in one write, so that lines never mix."""
    path = os.environ.get("STAND_IN_LOG")
    if path:
        facts |= {"time": time.time(), "job_id": os.environ.get("SLURM_JOB_ID")}
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(descriptor, f"{json.dumps(facts)}\n".encode())
        os.close(descriptor)


def rest(planned: float | str) -> None:
    """Sleep some seconds, or until a file exists."""
    if not isinstance(planned, str):
        time.sleep(planned)
        return
    while not Path(planned).exists():
        time.sleep(0.05)


def provenance(rule: str, params: Any) -> dict[str, Any]:
    """Return the stamp that a JSON artefact of this job carries."""
    settings, code = params.get("settings"), params.get("code")
    return {} if settings is None or code is None else {"provenance": stamp(rule, settings, code)}


def write(paths: Iterable[str], content: Mapping[str, Any]) -> None:
    """Make every output: JSON of `content`, a folder (no suffix), or an empty file."""
    for path in map(Path, paths):
        if not path.suffix:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content) if path.suffix == ".json" else "", encoding="utf-8")


def run(job: Any) -> int:
    """Do what the job's real script would have Snakemake see.

    Args:
        job: Snakemake's object of that name in a script.

    Returns:
        The exit status: 1 where the plan says that this job fails.
    """
    began, plan, name = process_start(), read_plan(), name_of(job.wildcards)
    key, seconds = f"{job.rule} {name}", plan.get("seconds", {})
    needed = job.params.settings["budget"]["gpus"] if job.rule in METERED else 0
    with (
        Path(job.log[0]).open("w", encoding="utf-8") as log,
        leases.lease(
            needed, label=key, say=lambda line: print(line, file=log, flush=True)
        ) as lease,
    ):
        facts = {"rule": job.rule, "cell": name, "process_start": began, "uuids": lease.uuids}
        record(event="start", **facts)
        rest(seconds.get(key, seconds.get(job.rule, SECONDS)))
        failed = key in plan.get("fail", [])
        if not failed:
            write(job.output, provenance(job.rule, job.params))
        record(event="end", **facts)
    return int(failed)


if __name__ == "__main__":
    sys.exit(run(snakemake))  # noqa: F821 -- put there by Snakemake
