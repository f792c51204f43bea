"""Model families: one module each for all that is special about it.

A family module defines `FAMILY`, a class with the interface of `longwatt.models.family.Family`; its name is what a
study's `family:` says. torch and transformers are imported inside its methods, since settings are checked against it at
parse time.
"""

from __future__ import annotations

import pkgutil
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longwatt.models.family import Family


@cache
def families() -> tuple[str, ...]:
    """The names of all families: of every module here that defines `FAMILY`."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(name for name in names if _defines_family(name))


def _defines_family(name: str) -> bool:
    """Read, not imported: what families are made of may be here too, and load torch."""
    source = Path(__path__[0], f"{name}.py").read_text(encoding="utf-8")
    return re.search(r"^FAMILY\b", source, re.MULTILINE) is not None


def load_family(name: str) -> Family:
    """The family called `name`."""
    family: Family = import_module(f"{__name__}.{name}").FAMILY()
    return family
