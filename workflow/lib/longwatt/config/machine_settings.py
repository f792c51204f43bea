"""Read config.yaml and what `--config` adds to it.

Users name the study by name or path, and Snakemake passes nested values as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from longwatt.canonical import text_of
from longwatt.config.documents import merge, normalise, validate
from longwatt.config.errors import StudyError
from longwatt.config.yaml_values import Loader
from longwatt.hub.client import MIRROR
from longwatt.layout.escaping import mended, unusable_text
from longwatt.shipped import STUDIES, study_file

SOURCE = "config.yaml (or --config)"
MODULE_SOURCE = (
    "the module's `config` (keys of another workflow do not belong there; give longwatt a part of "
    "its own, as `config: config['longwatt']`)"
)
STUDY_KEYS = ("study", "against")
_ENDINGS = (".yaml", ".yml")


def machine_settings(
    config: Mapping[str, Any],
    schema: Mapping[str, Any],
    folders: Sequence[Path],
    imported: bool = False,
) -> dict[str, Any]:
    """Check and normalise the settings of this machine.

    Args:
        config: Snakemake's mapping, in which nested values of `--config` are text.
        schema: workflow/schemas/config.schema.json.
        folders: those of study files (`longwatt.shipped.study_folders`).
        imported: it is the `config` that a workflow gives its module.

    Raises:
        StudyError: names the key, what was expected and what to do.
    """
    known = schema["properties"]
    typed = mended({key: _typed(value, known.get(key, {})) for key, value in config.items()})
    given = [key for key in STUDY_KEYS if typed.get(key) is not None]
    named = {key: study_name(typed[key], folders, key) for key in given}
    settings: dict[str, Any] = normalise({**typed, **named})
    validate(settings, schema, MODULE_SOURCE if imported else SOURCE)
    if problem := unusable_text(settings):
        raise StudyError(f"{SOURCE}: {problem}")
    return settings


def module_config(defaults: Mapping[str, Any], given: Any) -> dict[str, Any]:
    """Lay what an importing workflow gives its module over longwatt's own configuration.

    Raises:
        StudyError: it is no mapping.
    """
    if not isinstance(given, Mapping):
        raise StudyError(
            f"module: config: expected a mapping, as {{'study': 'NAME'}}, but found {given!r}"
        )
    return merge(defaults, given)


def environment(machine: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment that jobs need on this machine, on which no result depends."""
    mirror = machine.get("mirror")
    return {MIRROR: str(mirror)} if mirror else {}


def study_name(given: Any, folders: Sequence[Path], key: str = "study") -> Any:
    """Find a study's name from its name, its file's name or its file's path.

    Raises:
        StudyError: the file lies elsewhere.
    """
    if not isinstance(given, str):  # `--config study=1` is a number to Snakemake, 2024-01-31 a date
        return text_of(given) or (str(given) if isinstance(given, float) else given)
    path = Path(given.strip())
    if path.suffix in _ENDINGS and not study_file(path.name, folders):
        path = path.with_suffix("")
    meant = {root / path.parent for root in (Path.cwd(), *(one.parent for one in folders))}
    known = {one.resolve() for one in folders}
    if len(path.parts) > 1 and not known & {one.resolve() for one in meant}:
        raise StudyError(
            f"{SOURCE}: {key}: {given!r} lies in {path.parent}, but a study is given by its name "
            f"and lies in {STUDIES}/; copy it there, then give {key}={path.name}"
        )
    return path.name


def _typed(value: Any, schema: Mapping[str, Any]) -> Any:
    """Parse text as YAML where the schema wants another type.

    Snakemake leaves values that `--config` nests as text.
    """
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if isinstance(value, Mapping):
        known = schema.get("properties", {})
        return {key: _typed(item, known.get(key, {})) for key, item in value.items()}
    if not isinstance(value, str) or not kinds:
        return value
    try:
        read = yaml.load(value, Loader=Loader)
    except (yaml.YAMLError, ValueError):
        return value
    if "string" not in kinds or (read is None and "null" in kinds):
        return read
    is_number = isinstance(read, int | float) and not isinstance(read, bool)
    return read if is_number and "number" in kinds else value
