"""Check whether a summary speaks of the results that are there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from longwatt import command_line
from longwatt.config.documents import parse_changes
from longwatt.config.errors import StudyError
from longwatt.freshness.outdated import StaleSummary
from longwatt.results.summary import check_summary


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(prog="longwatt results", description=__doc__)
    add = made.add_argument
    add("command", choices=["check"], help="say whether a study's summary is up to date")
    add("results", type=Path, help="results/NAME")
    add("--config", nargs="*", default=[], metavar="KEY=VALUE", help="as given to Snakemake")
    add("--set-aside", action="store_true", help="have what is outdated made by the next run")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = parser().parse_args(arguments)
    try:
        print(check_summary(given.results, parse_changes(given.config), given.set_aside))
    except (StaleSummary, StudyError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    command_line.run_command(main)
