"""Options that several commands share, and what a shell completes for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from longwatt import shipped

RESULTS_FOLDER = Path("results")


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
