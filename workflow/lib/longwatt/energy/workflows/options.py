"""Options of commands that estimate energy."""

from __future__ import annotations

import argparse

from longwatt.command_line import positive_number
from longwatt.energy.rated import AUTO_WATTS, NO_WATTS


def watts_option(text: str) -> float | str:
    """Read watts of a busy core: `auto`, `none` or a number of watts."""
    if text in (AUTO_WATTS, NO_WATTS):
        return text
    try:
        return positive_number(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError("must be auto, none or a number of watts") from None
