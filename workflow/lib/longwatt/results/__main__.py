"""Check whether a summary speaks of the results that are there."""

from __future__ import annotations

from longwatt import command_line
from longwatt.results.summary import main

if __name__ == "__main__":
    command_line.run_command(main)
