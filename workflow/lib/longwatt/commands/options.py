"""Options that several commands share, and what a shell completes for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from longwatt import shipped
from longwatt.commands.snakemake_call import own_workflow, split_config
from longwatt.freshness.in_force import MACHINE_FILE

RESULTS_FOLDER = Path("results")


# Options of Snakemake by which another folder or file may name the study.
ELSEWHERE = ("--directory", "-d", "--configfile", "--configfiles", "--snakefile", "-s", "--profile")


def refuse_no_study(study: str | None, words: Sequence[str] = ()) -> None:
    """End where nothing names a study, as in a folder that was entered by mistake.

    Without this the demo of longwatt would run for minutes, into that folder.

    Args:
        study: the value of `--study`.
        words: options of Snakemake, which may name a study too.
    """
    rest, settings = split_config(words)
    named = study is not None or any(word.startswith("study=") for word in settings)
    if named or Path(MACHINE_FILE).is_file() or own_workflow():
        return
    if any(word.partition("=")[0] in ELSEWHERE for word in rest):
        return
    typer.echo(
        f"longwatt: this folder has no {MACHINE_FILE} that names a study; go to the folder that "
        "`longwatt init` wrote, or name one with --study (longwatt's own demo: --study demo)",
        err=True,
    )
    raise typer.Exit(2)


def known_studies(incomplete: str = "") -> list[str]:
    """List studies by name: those with a file, and those with results."""
    files = (path.stem for folder in shipped.study_folders() for path in folder.glob("*.yaml"))
    finished = (path.name for path in RESULTS_FOLDER.glob("*") if path.is_dir())
    return sorted({name for name in (*files, *finished) if name.startswith(incomplete)})


Study = Annotated[
    str | None,
    typer.Option(
        "--study",
        metavar="NAME",
        help="The study (by default the one that config.yaml names).",
        autocompletion=known_studies,
    ),
]
StudyName = Annotated[str, typer.Argument(metavar="STUDY", autocompletion=known_studies)]
# Commands that call Snakemake hand it all that they do not know.
PASSES_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
