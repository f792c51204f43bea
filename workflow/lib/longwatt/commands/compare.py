"""Set two studies side by side."""

from __future__ import annotations

import typer

from longwatt.commands.options import StudyName
from longwatt.commands.snakemake_call import call


def compare_studies(context: typer.Context, study: StudyName, against: StudyName) -> None:
    """Set two studies side by side, cell by cell."""
    options = [*context.args, "--config", f"against={against}"]
    raise typer.Exit(call(["compare"], study, options, cores="1"))
