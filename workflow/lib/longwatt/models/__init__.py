"""Model families: each has one module or package for all that is special about it.

A family's module defines `FAMILY`, a class with the interface of `longwatt.models.family.Family`.
The module's name is what a study's `family:` says. Its methods import torch and transformers, since
settings are checked against it at parse time.
"""

from __future__ import annotations

import ast
import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longwatt.models.family import Family


@cache
def family_names() -> tuple[str, ...]:
    """Find the names of all modules and packages here that define `FAMILY`."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if _is_family(m)))


def _is_family(module: pkgutil.ModuleInfo) -> bool:
    """Check whether a module defines `FAMILY` without importing it, which may load torch."""
    path = Path(__path__[0], module.name)
    source = (path / "__init__.py" if module.ispkg else path.with_suffix(".py")).read_text("utf-8")
    return "FAMILY" in source and any("FAMILY" in _bound(node) for node in ast.parse(source).body)


def _bound(statement: ast.stmt) -> set[str]:
    """Collect the names that a statement assigns or imports."""
    if isinstance(statement, ast.ImportFrom):
        return {alias.asname or alias.name for alias in statement.names}
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def load_family(name: str) -> Family:
    """Make the family called `name`."""
    family: Family = import_module(f"{__name__}.{name}").FAMILY()
    return family
