"""Export a study's results in a format that others read."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from longwatt.commands.options import RESULTS_FOLDER, Study


class FormatName(enum.StrEnum):
    """The formats of exports, as the command line names them."""

    BOAMPS = "boamps"
    MODEL_CARD = "model-card"
    RO_CRATE = "ro-crate"


def export_results(
    form: Annotated[
        FormatName,
        typer.Option(
            "--format",
            help="BoAmps reports (JSON), a model card (README.md) or a run crate of the study.",
        ),
    ],
    study: Study = None,
    cell: Annotated[
        str | None,
        typer.Option(metavar="CELL", help="Only this cell, such as qmsum/led/1024/gpu/…/seed1."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(metavar="NAME", help="Only this dataset.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Only this model.")] = None,
    seq_len: Annotated[
        int | None, typer.Option(metavar="TOKENS", help="Only this input length.")
    ] = None,
    budget: Annotated[str | None, typer.Option(metavar="NAME", help="Only this budget.")] = None,
    protocol: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this protocol.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="SEED", help="Only this seed.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="File or folder to write (results/STUDY/exports)."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
    config: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="As given to Snakemake; may be given repeatedly."),
    ] = None,
) -> None:
    """Export results as BoAmps reports, model card or run crate.

    Nothing is told that was not measured or declared. The terminal names all that is left out, and
    the way to declare it. For example:

    longwatt export --format boamps --study demo
    """
    from longwatt.config.documents import parse_changes
    from longwatt.config.errors import StudyError
    from longwatt.exports.export import Request, export_study
    from longwatt.exports.known import NothingToExport
    from longwatt.freshness.in_force import asked_study
    from longwatt.provenance.artefacts import Damaged

    given = {
        "dataset": dataset, "model": model, "seq_len": seq_len, "budget": budget,
        "protocol": protocol, "seed": seed,
    }  # fmt: skip
    axes = {name: value for name, value in given.items() if value is not None}
    try:
        words = config or []
        results = RESULTS_FOLDER / asked_study(study, words)
        changes = parse_changes(words)
        request = Request(form.value, results, cell, axes, out, force, changes)
        found = export_study(request)
    except (NothingToExport, StudyError, Damaged) as error:
        typer.echo(f"longwatt export: {error}", err=True)
        raise typer.Exit(1) from None
    for note in found.notes:
        typer.echo(note, err=True)
    for path in found.paths:
        typer.echo(path)
