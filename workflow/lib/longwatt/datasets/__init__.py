"""Dataset readers: one module each, a pure function `read(options)` that yields records by split.

A source module defines OPTIONS_SCHEMA (JSON schema of a study's `options`) and
`read(options) -> SourceData`. Heavy imports happen inside `read`, since options are checked at parse time.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

SOURCES = ("aclsum", "needle")


def options_schema(source: str) -> dict[str, Any]:
    """The JSON schema of a source's options."""
    schema: dict[str, Any] = import_module(f"longwatt.datasets.{source}").OPTIONS_SCHEMA
    return schema
