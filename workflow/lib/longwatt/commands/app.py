"""Make the program `longwatt` of its commands."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Annotated, Any

import typer

from longwatt.commands import run as running
from longwatt.commands.check import check_all
from longwatt.commands.compare import compare_studies
from longwatt.commands.ending import EndingCommand
from longwatt.commands.export import export_results
from longwatt.commands.init import init
from longwatt.commands.options import PASSES_ON
from longwatt.commands.passed_on import ARGPARSE_COMMANDS, PassedOnCommand
from longwatt.commands.status import show_status

Command = tuple[Callable[..., None], Mapping[str, Any]]
ON_SNAKEMAKE = {
    "context_settings": PASSES_ON,
    "options_metavar": "[OPTIONS] [SNAKEMAKE'S OPTIONS]...",
}
ARGPARSE: dict[str, Command] = {
    name: (one.run, {"cls": PassedOnCommand, "help": one.help, "add_help_option": False})
    for name, one in ARGPARSE_COMMANDS.items()
}
# In the order in which one meets them.
COMMANDS: dict[str, Command] = {
    "init": (init, {}),
    "check": (check_all, {}),
    "plan": (running.plan_study, ON_SNAKEMAKE),
    "run": (running.run_study, ON_SNAKEMAKE),
    "status": (show_status, {}),
    "partial": (running.report_partly, ON_SNAKEMAKE),
    "choose": ARGPARSE["choose"],
    "report": (running.report_study, ON_SNAKEMAKE),
    "compare": (compare_studies, ON_SNAKEMAKE),
    "cascade": (running.judge_cascades, ON_SNAKEMAKE),
    "export": (export_results, {}),
    **ARGPARSE,
}


def _say_version(asked: bool) -> None:
    if asked:
        own, snakemake = metadata.version("longwatt"), metadata.version("snakemake")
        python = platform.python_version()
        typer.echo(f"longwatt {own} (Snakemake {snakemake}, Python {python})")
        raise typer.Exit


def _begin(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_say_version, is_eager=True, help="Print the version and end."
        ),
    ] = False,
) -> None:
    """Tell what accuracy costs when long-context language models are fine-tuned.

    Commands of a study call Snakemake, print its command line, and pass its options on.
    """


def make_app() -> typer.Typer:
    """Make the program with all its commands."""
    app = typer.Typer(
        name="longwatt",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_begin)
    for name, (command, how) in COMMANDS.items():
        app.command(name, **{"cls": EndingCommand, **how})(command)
    return app
