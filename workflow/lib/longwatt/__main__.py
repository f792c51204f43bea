"""Run the program `longwatt`: its commands are in the room `commands`."""

from __future__ import annotations

from collections.abc import Sequence

from longwatt import command_line
from longwatt.commands.app import make_app


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command that is named first, and return its status."""
    try:
        make_app()(None if arguments is None else list(arguments), prog_name="longwatt")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def main() -> None:
    """Run the command of the command line, and end as a shell expects."""
    command_line.run_command(run)


if __name__ == "__main__":
    main()
