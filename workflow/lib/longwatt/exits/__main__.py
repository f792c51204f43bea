"""Choose a threshold from the results of a study."""

from __future__ import annotations

from longwatt import command_line
from longwatt.exits.choose import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    command_line.run_command(main)
