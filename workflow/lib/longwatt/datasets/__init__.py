"""Dataset sources: one module each, a pure function `read(options)` that gives records by split.

A source module defines

- `OPTIONS_SCHEMA`, the JSON schema of a study's `options`,
- `read(options) -> longwatt.datasets.records.SourceData`,

and where it needs to

- `splits(options)`: the splits it will have (without it: train, validation and test),
- `files(options)`: local files that Snakemake is told of, since only with them the dataset can be made,
- `local_files(options)`: all files of this machine that are read, by the name that a record of them has; one whose
  contents change makes the dataset again, unless the options pin them (`sha256`, `revision`). Without it: `files`,
- `missing(options)`: what stands in the way of reading it here, as a sentence, or None,
- `repository(options)`: the hub's repository that it is fetched from and the choice of its files, or None,
- `at_hand(options)`: whether it is had from elsewhere here, so that the hub is not asked.

Its name is what a study's `source:` says. Heavy imports happen inside `read`, since the rest is asked at parse time.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from longwatt import hub
from longwatt.datasets.records import SPLITS, files_read

Options = Mapping[str, Any]


@cache
def sources() -> tuple[str, ...]:
    """The names of all sources: of every module here that defines `OPTIONS_SCHEMA`."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(name for name in names if hasattr(_module(name), "OPTIONS_SCHEMA"))


def options_schema(source: str) -> dict[str, Any]:
    """The JSON schema of a source's options."""
    schema: dict[str, Any] = _module(source).OPTIONS_SCHEMA
    return schema


def splits(source: str, options: Options) -> tuple[str, ...]:
    """The splits that a source will have."""
    found = _ask(source, "splits", options)
    return SPLITS if found is None else tuple(found)


def files(source: str, options: Options) -> list[str]:
    """The local files that a dataset is read from, whether they are there or not."""
    return list(_ask(source, "files", options) or [])


def local_files(source: str, options: Options) -> dict[str, Path]:
    """The files of this machine that a dataset is read from, by the name that a record of them has."""
    return files_read(_module(source), options)


def is_pinned(options: Options) -> bool:
    """Whether options say themselves which contents are meant."""
    return "sha256" in options or "revision" in options


def missing(source: str, options: Options) -> str | None:
    """What stands in the way of reading a dataset here; None if nothing is known to."""
    sentence: str | None = _ask(source, "missing", options)
    return sentence


def repository(source: str, options: Options) -> tuple[hub.Repository, hub.Choose] | None:
    """The hub's repository that a dataset is fetched from, and the choice of its files; None if from elsewhere."""
    found: tuple[hub.Repository, hub.Choose] | None = _ask(source, "repository", options)
    return found


def at_hand(source: str, options: Options) -> bool:
    """Whether a dataset is had without its repository here."""
    return bool(_ask(source, "at_hand", options))


def _ask(source: str, question: str, options: Options) -> Any:
    answer = getattr(_module(source), question, None)
    return answer(options) if answer else None


def _module(name: str) -> Any:
    return import_module(f"{__name__}.{name}")
