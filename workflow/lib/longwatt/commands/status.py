"""Say how far a study is."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from longwatt.commands.options import RESULTS_FOLDER, Study, known_studies, refuse_no_study
from longwatt.spelling import nearest

if TYPE_CHECKING:
    from rich.console import Console, Group

    from longwatt.watch.study_status import StatusReader, StudyStatus

EVERY_S = 2.0
PLAIN_WIDTH = 100  # of lines that go to no terminal


def show_status(
    study: Study = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Look again every two seconds until the run is over."),
    ] = False,
) -> None:
    """Say what runs, what is left, what failed and when a study ends.

    It reads files alone, so it works from another terminal, while another machine runs the study,
    and after the run is over. For example:

    longwatt status --study demo --watch
    """
    refuse_no_study(study)
    reader = _reader(study)
    if as_json:
        _print_json(reader, watch)
    elif watch and sys.stdout.isatty():
        _redraw(reader)
    else:
        _print_text(reader, watch)


def _reader(study: str | None) -> StatusReader:
    """Read a study as its file is now, or end with why not."""
    from longwatt.config.errors import StudyError
    from longwatt.freshness.in_force import asked_study, find
    from longwatt.watch.study_status import StatusReader

    try:
        name = asked_study(study)
        if (current := find(RESULTS_FOLDER / name)) is not None:
            return StatusReader(current)
        said = (
            f"there is no study {name} here{nearest(name, known_studies())}; name one with "
            "--study, or go to the folder that holds its studies/ and results/"
        )
    except StudyError as error:
        said = str(error)
    typer.echo(f"longwatt: {said}", err=True)
    raise typer.Exit(2)


def _statuses(reader: StatusReader, again: bool) -> Iterator[StudyStatus]:
    """Yield one status, or one after another until the run is over."""
    status = reader.read()
    yield status
    ran = status.state == "running"
    while again and status.state != "finished" and (status.state == "running" or not ran):
        time.sleep(EVERY_S)
        status = reader.read()
        yield status
        ran = ran or status.state == "running"


def _print_json(reader: StatusReader, again: bool) -> None:
    from longwatt.watch.status_page import status_facts

    for status in _statuses(reader, again):
        typer.echo(json.dumps(status_facts(status), indent=None if again else 1))


def _print_text(reader: StatusReader, again: bool) -> None:
    console = _console()
    for number, status in enumerate(_statuses(reader, again)):
        if number:
            console.print()
        console.print(_page(status))


def _redraw(reader: StatusReader) -> None:
    """Draw the status in place."""
    from rich.live import Live

    with Live(console=_console(), auto_refresh=False) as live:
        for status in _statuses(reader, again=True):
            live.update(_page(status), refresh=True)


def _page(status: StudyStatus) -> Group:
    """Return a status as what rich prints."""
    from rich.console import Group
    from rich.text import Text

    from longwatt.watch.drawing import ProgressRows
    from longwatt.watch.status_page import failed_lines, head_lines, job_rows

    head = [Text(line) for line in head_lines(status)]
    failed = [Text(line, style="red") for line in failed_lines(status)]
    return Group(*head, ProgressRows(job_rows(status)), *failed)


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)
