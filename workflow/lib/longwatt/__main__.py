"""Run one of longwatt's commands by name.

longwatt choose --study NAME
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from longwatt import command_line

# Command -> the module whose `main` runs it, loaded only then.
COMMANDS = {"choose": "longwatt.answer.command"}


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command that is named first with the arguments behind it."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="longwatt", description=__doc__)
    parser.add_argument("command", choices=list(COMMANDS), help="what to do")
    named = parser.parse_args(given[:1]).command
    status: int = importlib.import_module(COMMANDS[named]).main(given[1:])
    return status


def main() -> None:
    """Run the command of the command line, and end as a shell expects."""
    command_line.run_command(run)


if __name__ == "__main__":
    main()
