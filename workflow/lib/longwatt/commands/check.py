"""Say everything that would be refused, without running."""

from __future__ import annotations

from typing import Annotated

import typer

from longwatt.commands.options import Study

CHANGES_NO_RESULT = "It says what would be refused, and runs nothing."


def check(
    study: Study = None,
    gpus: Annotated[
        int | None,
        typer.Option(min=0, help="GPUs that may be used, where they are not those found here."),
    ] = None,
) -> None:
    """Say everything that would be refused, in seconds, without running.

    It reads all rows of your files, the settings of every cell, models, memory and disk. Every
    problem is named, with file or key and what to do. The status is 1 if there is any.
    """
    from longwatt.commands import snakemake_call
    from longwatt.readiness.ready import check_study

    found = check_study(study, gpus)
    for note in found.notes:
        typer.echo(f"note: {note}")
    if not found.problems:
        options = ["--dry-run", "--quiet", "all"]
        options += ["--resources", f"gpu={gpus}"] if gpus is not None else []
        if snakemake_call.call([], study, options):
            found.refuse("Snakemake refuses the study; its own words are above")
        found.checked.append("Snakemake: a dry run of all jobs")
    if found.problems:
        for problem in found.problems:
            typer.echo(f"problem: {problem}", err=True)
        typer.echo(f"{len(found.problems)} problem(s); nothing was run", err=True)
        raise typer.Exit(1)
    for line in found.checked:
        typer.echo(f"checked: {line}")
    typer.echo("nothing would be refused")
