"""Make every file of a study, and Snakemake's record of each, without running a job.

    cd PROJECT && python -m bench.pretend STUDY

The files hold no result: JSON artefacts hold their stamp, the others nothing. The records are
written by Snakemake's own bookkeeping after a job.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from snakemake.api import SnakemakeApi
from snakemake.io import is_flagged
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings

from longwatt.provenance.stamps import stamp

FOLDER_TIME = ".snakemake_timestamp"  # the file whose time Snakemake takes for a folder's


def make(job: Any, made_at: float) -> None:
    """Write a job's outputs, all of one age."""
    for output in job.output:
        path = Path(output)
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_flagged(output, "directory"):
            path.mkdir(exist_ok=True)
            path = path / FOLDER_TIME
        text = ""
        if path.suffix == ".json":
            made_by = stamp(job.rule.name, job.params.settings, job.params.code)
            text = json.dumps({"provenance": made_by})
        path.write_text(text, encoding="utf-8")
        os.utime(path, (made_at, made_at))


async def record(workflow: Any) -> None:
    """Have every job recorded as finished."""
    for job in workflow.dag.jobs:
        await workflow.persistence.finished(job)


def main() -> None:
    """Make and record the study named on the command line."""
    made_at = time.time() - 3600  # older than all that a run could make
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        settings = ConfigSettings(config={"study": sys.argv[1]})
        cores, snakefile = ResourceSettings(cores=2), Path("Snakefile")
        project = api.workflow(cores, settings, snakefile=snakefile, workdir=Path())
        project.dag().execute_workflow(executor="dryrun")
        # Its programming interface shows no jobs.
        workflow = project._workflow
        for job in workflow.dag.jobs:
            make(job, made_at)
        asyncio.run(record(workflow))


if __name__ == "__main__":
    main()
