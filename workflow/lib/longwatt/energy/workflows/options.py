"""Choices of those who estimate energy, on a command line and in their own code."""

from __future__ import annotations

import argparse
import math

from longwatt.command_line import positive_number
from longwatt.energy.rated import AUTO_WATTS, NO_WATTS


class MeterError(ValueError):
    """The meter cannot be switched on as asked. The message says what to do."""


def watts_choice(value: float | str) -> float | str:
    """Return watts of a busy core as given in Python.

    They are `auto`, `none` or a number.

    Raises:
        MeterError: it is none of them.
    """
    if value in (AUTO_WATTS, NO_WATTS):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return value
    raise MeterError(f"watts_per_core is {value!r}; give auto, none or watts above 0")


def watts_option(text: str) -> float | str:
    """Read watts of a busy core: `auto`, `none` or a number of watts."""
    if text in (AUTO_WATTS, NO_WATTS):
        return text
    try:
        return positive_number(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError("must be auto, none or a number of watts") from None
