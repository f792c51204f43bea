"""Texts of tables without the blanks that align their columns."""

import re


def single_spaced(text: str) -> str:
    """Write each run of blanks as one, and the rule below a table's head as short as it can be."""
    return re.sub(r"(?<=[|:])-+(?=[:|])", "-", re.sub(" +", " ", text))
