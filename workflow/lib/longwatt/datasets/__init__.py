"""Dataset sources: one module each, with a pure function `read(options)`.

A source module defines

- `OPTIONS_SCHEMA`, the JSON schema of a study's `options`,
- `read(options) -> longwatt.datasets.records.SourceData`, the records by split,

and where it needs to

- `splits(options)`: the splits it will have (default: train, validation and test),
- `files(options)`: local files that Snakemake tracks, since the dataset is made from them,
- `local_files(options)`: every file of this machine that is read, by its name in provenance records
  (default: `files`). A file whose contents change makes the dataset again, unless the options pin
  it (`sha256`, `revision`),
- `missing(options)`: a sentence on why the dataset cannot be read here, or None,
- `repository(options)`: the hub repository it is fetched from and the choice of its files, or None,
- `at_hand(options)`: True if it is available here without asking the hub.

A study names the module as `source:`. Heavy imports happen inside `read`, since Snakemake calls the
other functions at parse time.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from longwatt.datasets.records import SPLITS, files_read
from longwatt.hub import client

Options = Mapping[str, Any]


@cache
def source_names() -> tuple[str, ...]:
    """List the names of all sources: the modules here that define `OPTIONS_SCHEMA`."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(name for name in names if hasattr(_module(name), "OPTIONS_SCHEMA"))


def options_schema(source: str) -> dict[str, Any]:
    """Return the JSON schema of a source's options."""
    return dict(_module(source).OPTIONS_SCHEMA)


def splits(source: str, options: Options) -> tuple[str, ...]:
    """Return the splits that a source will have."""
    found = _ask(source, "splits", options)
    return SPLITS if found is None else tuple(found)


def files(source: str, options: Options) -> list[str]:
    """Return the local files that a dataset is read from, existing or not."""
    return list(_ask(source, "files", options) or [])


def local_files(source: str, options: Options) -> dict[str, Path]:
    """Return the files of this machine that a dataset is read from, by name."""
    return files_read(_module(source), options)


def is_pinned(options: Options) -> bool:
    """Return whether options pin the contents that they mean."""
    return "sha256" in options or "revision" in options


def missing(source: str, options: Options) -> str | None:
    """Say why a dataset cannot be read here, or return None."""
    sentence: str | None = _ask(source, "missing", options)
    return sentence


def repository(source: str, options: Options) -> tuple[client.Repository, client.Choose] | None:
    """Return the hub repository of a dataset and the choice of its files, or None."""
    found: tuple[client.Repository, client.Choose] | None = _ask(source, "repository", options)
    return found


def at_hand(source: str, options: Options) -> bool:
    """Return whether a dataset is available here without its hub repository."""
    return bool(_ask(source, "at_hand", options))


def _ask(source: str, question: str, options: Options) -> Any:
    answer = getattr(_module(source), question, None)
    return answer(options) if answer else None


def _module(name: str) -> Any:
    return import_module(f"{__name__}.{name}")
