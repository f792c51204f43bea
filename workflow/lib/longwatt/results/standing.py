"""Check that a choice rests on results that stand, for all commands that choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from longwatt.freshness.in_force import find
from longwatt.freshness.outdated import Files, message, outdated
from longwatt.provenance.stamps import Stage
from longwatt.spelling import nearest
from longwatt.study.stages import Stages


class NothingFits(ValueError):
    """Nothing meets what was asked for, or there is nothing to look at.

    The message says what comes nearest.
    """


def results_of(results: Path, study: str) -> Path:
    """Return the folder of a study's results.

    Raises:
        NothingFits: there is none; names the study that was probably meant.
    """
    folder = results / study
    if not folder.is_dir():
        known = sorted(path.name for path in results.glob("*/") if path.is_dir())
        raise NothingFits(
            f"{folder} does not exist{nearest(study, known)}; run the study first, or name another"
        )
    return folder


def refuse_outdated(
    folder: Path, changes: Mapping[str, Any], made: Path, job: Callable[[Stages], Stage]
) -> str | None:
    """Refuse to choose from results that the study as it is would not give.

    Other settings or code made such results, or what is chosen from was made from others than are
    there.

    Args:
        folder: results/{study}.
        changes: of the machine's configuration, as given to Snakemake by `--config`.
        made: the artefact that is chosen from.
        job: names the job that makes it.

    Returns:
        A sentence that this is not known, if the study's file is not here; else None.

    Raises:
        NothingFits: names the artefacts, and what to do.
        longwatt.config.errors.StudyError: the study or the configuration is wrong.
    """
    current = find(folder, changes)
    if current is not None:
        jobs = [*current.stages.before_summary(), job(current.stages)]
        if old := outdated(current, folder, jobs):
            raise NothingFits(message(folder.name, old))
        return None
    if other := Files(folder).other_origin(made):
        origin = f"another {other} than is there"
        raise NothingFits(f"{made} was made from {origin}; run the study again")
    doubt = "whether these are results of its settings is not known"
    return f"studies/{folder.name}.yaml is not here, so {doubt}"
