"""Model families: one module each for all that is special about it.

A family module defines `FAMILY`, a class with the interface of `longwatt.models.family.Family`. This
file stays free of torch, since study files are checked against FAMILIES at parse time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longwatt.models.family import Family

FAMILIES = ("led",)


def load_family(name: str) -> Family:
    """The family called `name`; imports torch and transformers."""
    family: Family = import_module(f"longwatt.models.{name}").FAMILY()
    return family
