"""Write a first study for data of your own."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from longwatt.first_study.making import FirstStudy, Look


def asks() -> bool:
    """Return whether a person sits at the terminal and can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def init(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Folder to write into; made if it is not there."),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="File with your rows: JSON lines, CSV, TSV or parquet, or a folder of them. Give "
            "it again for each split, as train=FILE, validation=FILE, test=FILE or by name. What "
            "is missing is split from the training rows.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="tiny (random weights, a minute on a CPU), minilm or smollm2 (of a Python "
            "package), a folder as save_pretrained writes it, or OWNER/NAME of the hub.",
        ),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(metavar="COMMIT", help="Commit of a hub's model, 40 hexadecimal digits."),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the study; the folder's unless given."),
    ] = None,
    input: Annotated[
        str | None, typer.Option("--input", metavar="FIELD", help="Field with the text to read.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="FIELD", help="Field with the answer, summary or label."),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            "--query", metavar="FIELD", help="Field with the question; none: there is none."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="text or classification, if the guess is wrong."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="METRIC", help="Metric, in place of the one that outputs suggest."),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(
            metavar="FAMILY", help="Family of the model, if it cannot be read or guessed."
        ),
    ] = None,
) -> None:
    """Look at your rows and write a commented study that runs.

    It also writes config.yaml, README.md and .gitignore, and data files where rows had to be split
    or written anew. It writes over nothing.
    """
    from longwatt.first_study.errors import FirstStudyError
    from longwatt.first_study.fields import Asked
    from longwatt.first_study.making import FirstStudy

    named = [_asked("--data", _given(data), "File with your rows")]
    wanted = FirstStudy(
        folder=folder.expanduser(),
        data=data or named,
        model=_asked("--model", model, "Model (tiny, a folder, OWNER/NAME ...)", "tiny"),
        revision=revision,
        study=study,
        fields=Asked(input, output, query),
        task=task,
        metric=metric,
        family=family,
    )
    try:
        _make(wanted)
    except FirstStudyError as error:
        typer.echo(f"longwatt init: {error}", err=True)
        raise typer.Exit(1) from None


def _given(data: list[str] | None) -> str | None:
    return data[0] if data else None


def _asked(option: str, given: str | None, what: str, default: str | None = None) -> str:
    """Return a value as given, or ask for it at a terminal."""
    if given:
        return given
    if not asks():
        typer.echo(f"longwatt init: {option} is missing; see longwatt init --help", err=True)
        raise typer.Exit(2)
    return str(typer.prompt(what, default=default))


def _make(wanted: FirstStudy) -> None:
    from longwatt.first_study.making import make

    wanted, looked = _agreed(wanted)
    made = make(wanted, looked)
    for line in made.did:
        typer.echo(line)
    for path in made.kept:
        typer.echo(f"kept {wanted.folder / path}, which was there")
    for path in made.written:
        typer.echo(f"wrote {wanted.folder / path}")
    typer.echo(f"Next: {_next_commands(wanted.folder, made.study)}")


def _agreed(wanted: FirstStudy) -> tuple[FirstStudy, Look]:
    """Show what rows are taken for, until the user says that it is right."""
    looked = _shown(wanted)
    if not asks():
        typer.echo("(--input, --output, --query, --task and --metric put right what is not)")
    while asks() and not typer.confirm("Is that right?", default=True):
        wanted = _corrected(wanted, looked)
        looked = _shown(wanted)
    return wanted, looked


def _shown(wanted: FirstStudy) -> Look:
    from longwatt.first_study.making import first_look

    looked = first_look(wanted)
    for line in looked.told():
        typer.echo(line)
    return looked


def _next_commands(folder: Path, study: str) -> str:
    """Return the commands to go on with, of this study though config.yaml may name another."""
    from longwatt.config.errors import StudyError
    from longwatt.freshness.in_force import study_of_folder

    try:
        named = study_of_folder(folder) == study
    except StudyError:  # a config.yaml that was there and cannot be read, which `check` will say
        named = False
    chosen = "" if named else f" --study {study}"
    commands = [f"longwatt check{chosen}", f"longwatt run{chosen}"]
    there = folder.resolve() == Path.cwd()
    return " && ".join([*([] if there else [f"cd {shlex.quote(str(folder))}"]), *commands])


def _corrected(wanted: FirstStudy, looked: Look) -> FirstStudy:
    """Ask for what was misread, Enter for what was not."""
    from dataclasses import replace

    from longwatt.first_study.fields import NONE, Asked
    from longwatt.tasks import CLASSIFICATION, TEXT

    was, guessed = looked.fields, looked.seen.task
    fields = Asked(
        typer.prompt("Field with the text to read", default=was.input or None),
        typer.prompt("Field with the answer, summary or label", default=was.output or None),
        typer.prompt(f"Field with the question ({NONE}: there is none)", default=was.query or NONE),
    )
    task = typer.prompt(f"The output is {TEXT} or {CLASSIFICATION}", default=guessed)
    return replace(wanted, fields=fields, task=wanted.task if task == guessed else task)
