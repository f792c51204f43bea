"""Choose a threshold from the results of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longwatt import command_line
from longwatt.exits.choose import main

if TYPE_CHECKING:
    pass

if __name__ == "__main__":
    command_line.run_command(main)
