"""Say everything that would be refused, without running."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import Annotated

import typer

from longwatt.commands.options import Study, refuse_no_study
from longwatt.commands.snakemake_call import arguments_for

MOST_WORDS = 4000  # characters of what Snakemake says that are shown, the last of them


def check_all(
    study: Study = None,
    gpus: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="GPUs that may be used, where they are not those found here."
        ),
    ] = None,
) -> None:
    """Say all that would be refused, without running anything.

    It reads all rows of your files, the settings of every cell, models, memory and disk. Every
    problem is named, with file or key and what to do. The status is 1 if there is any.
    """
    from longwatt.readiness.ready import check_study

    refuse_no_study(study)
    found = check_study(study, gpus)
    for note in found.notes:
        typer.echo(f"note: {note}")
    if not found.problems:
        found.refuse(*dry_run(study, gpus))
        found.checked.append("Snakemake: a dry run of all jobs")
    if found.problems:
        for problem in found.problems:
            typer.echo(f"problem: {problem}", err=True)
        typer.echo(f"problems found: {len(found.problems)}; nothing was run", err=True)
        raise typer.Exit(1)
    for line in found.checked:
        typer.echo(f"checked: {line}")
    typer.echo("nothing would be refused")


def dry_run(study: str | None, gpus: int | None) -> list[str]:
    """Return the words of Snakemake where its dry run refuses a study, else nothing."""
    options = ["--dry-run", "--quiet", "all"]
    options += ["--resources", f"gpu={gpus}"] if gpus is not None else []
    arguments = arguments_for([], study, options, "1")
    typer.echo(f"$ {shlex.join(['snakemake', *arguments])}", err=True)
    command = [sys.executable, "-m", "snakemake", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return [] if done.returncode == 0 else [f"Snakemake: {done.stdout.strip()[-MOST_WORDS:]}"]
