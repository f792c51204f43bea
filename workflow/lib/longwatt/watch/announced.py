"""Tell watchers in Snakemake's own process which study it runs, and note the run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from longwatt.files import read_object
from longwatt.freshness.in_force import InForce
from longwatt.processes import identified, is_alive
from longwatt.provenance.stamps import write_json
from longwatt.watch.outlook import StudyClock


@dataclass(frozen=True)
class Announced:
    """A study that this process runs.

    Attributes:
        current: the study, and the code behind its jobs.
        clock: returns the foreteller of its end, which takes a moment to make; None on a cluster,
            whose queue nobody can foretell.
    """

    current: InForce
    clock: Callable[[], StudyClock] | None


_studies: list[Announced] = []


def announce(study: Announced) -> None:
    """Name the study that this process runs, and note it for `longwatt status`."""
    _studies[:] = [study]
    name = study.current.stages.study_id
    # Snakemake's lock refuses a second run, or it only looks (a plan): the first is to be watched.
    if living_run(name) is not None:
        return
    path = run_file(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        run = {"run": identified(os.getpid()), "host": os.uname().nodename}
        write_json(path, {**run, "pid": os.getpid(), "began_s": time.time()})
    except OSError:  # watching must not stop a run
        return


def living_run(study: str) -> int | None:
    """Return the process of this machine that runs a study by its own note."""
    noted = read_object(run_file(study))
    try:
        return int(noted["pid"]) if is_alive(str(noted["run"])) else None
    except (KeyError, TypeError, ValueError):  # none, or damaged
        return None


def announced() -> Announced | None:
    """Return the study that this process runs, None before the workflow has been read."""
    return _studies[0] if _studies else None


def run_file(study: str) -> Path:
    """Return the file that names the newest run of a study."""
    return Path("logs") / study / "run.json"
