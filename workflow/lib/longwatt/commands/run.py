"""Run a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from longwatt.commands.options import RESULTS_FOLDER, Study, refuse_no_study
from longwatt.commands.snakemake_call import call, split_config
from longwatt.freshness.in_force import asked_study

DRY = ("-n", "--dry-run", "--dryrun")


def run_study(context: typer.Context, study: Study = None) -> None:
    """Run a study to its end, with all of Snakemake's options.

    Finished work is kept, and what was stopped goes on. For example:

    longwatt run --study demo --resources gpu=8
    """
    refuse_no_study(study, context.args)
    status = call(study=study, options=context.args)
    if not set(context.args) & set(DRY):
        say = _say_what_is_next if status == 0 else _say_who_runs
        say(asked_study(study, split_config(context.args)[1]))
    raise typer.Exit(status)


def _say_what_is_next(study: str) -> None:
    answer = RESULTS_FOLDER / study / "answer.html"
    if answer.is_file():
        typer.echo(
            f"The answer is {answer}. Next: longwatt choose --study {study}, or "
            f"longwatt report --study {study} for one file with all of it.",
            err=True,
        )


def _say_who_runs(study: str) -> None:
    """Name the other run that holds Snakemake's lock, so that nobody takes the lock away."""
    from longwatt.watch.announced import living_run

    if (process := living_run(study)) is not None:
        typer.echo(
            f"longwatt: process {process} runs {study} in this folder already; wait for it "
            f"(longwatt status --study {study} --watch), and do not unlock",
            err=True,
        )


def _make(target: str, context: typer.Context, study: str | None) -> NoReturn:
    """Ask Snakemake for a target that only tells, and end with its status."""
    refuse_no_study(study, context.args)
    raise typer.Exit(call([target], study, context.args, cores="1"))


def plan_study(context: typer.Context, study: Study = None) -> None:
    """Foretell time, energy, money and disk of a study."""
    _make("plan", context, study)


def report_partly(context: typer.Context, study: Study = None) -> None:
    """Report on the finished cells of a study."""
    _make("partial", context, study)


def judge_cascades(context: typer.Context, study: Study = None) -> None:
    """Judge whether a cheap cell should answer first.

    Another cell then answers where the first is unsure.
    """
    _make("cascade", context, study)


def report_study(
    context: typer.Context,
    study: Study = None,
    out: Annotated[Path | None, typer.Option(help="The report (results/NAME/report.html).")] = None,
) -> None:
    """Write the report, one file with all tables and figures."""
    refuse_no_study(study, context.args)
    name = asked_study(study, split_config(context.args)[1])
    page = out or RESULTS_FOLDER / name / "report.html"
    status = call([], study, ["--report", str(page), *context.args], cores="1")
    if status == 0:
        typer.echo(f"The report is {page}", err=True)
    raise typer.Exit(status)
