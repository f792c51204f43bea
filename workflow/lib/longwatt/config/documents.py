"""Read and check a study file and config.yaml: schema, nearest known key, normalised types.

Parsed by every Snakemake process on every node, so this module imports nothing heavy.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from longwatt.canonical import text_of
from longwatt.config.errors import StudyError
from longwatt.config.schema_paths import describe, path_of
from longwatt.config.yaml_values import Loader, key_of, unusable_numbers
from longwatt.shipped import STUDY_SCHEMA
from longwatt.spelling import closest, nearest

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

CHANGES_NO_RESULT = "It reads settings, which are digested themselves."

DEMO = "demo"  # the embedded study
OF_TEXTS = ("pattern", "enum", "minLength", "maxLength")  # what a schema asks of a text
TYPES = {
    "array": "a list [...]",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "nothing (null)",
    "number": "a number",
    "object": "a mapping (key: value)",
    "string": "text",
}


def read_yaml(path: Path, extended_by: Collection[str] = ()) -> Any:
    """Parse a YAML file.

    Args:
        path: the file.
        extended_by: studies that extend this one, not suggested if the file is missing.

    Raises:
        StudyError: the file is missing, not UTF-8, not YAML, or repeats a key. Names file and line.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            return yaml.load(stream, Loader=Loader)
    except FileNotFoundError:
        known = sorted(p.stem for p in path.parent.glob("*.yaml") if p.stem not in extended_by)
        raise StudyError(
            f"{path} does not exist{nearest(path.stem, known)}; "
            f"studies found: {', '.join(known) or 'none'}"
        ) from None
    except UnicodeDecodeError as error:
        raise StudyError(f"{path} is not UTF-8 ({error.reason} at byte {error.start})") from None
    except IsADirectoryError:
        problem = "is a folder, but a file is expected; remove or rename it"
        raise StudyError(f"{path} {problem}") from None
    except OSError as error:  # no right to read it, or too long a name
        raise StudyError(f"{path} cannot be read: {error.strerror}") from None
    except StudyError:  # a key that is given twice
        raise
    # A number of thousands of digits is a ValueError.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise StudyError(f"{path} is not YAML: {error}") from None


def normalise(value: Any) -> Any:
    """Give every value one spelling: keys are strings in sorted order, 6.0 is 6.

    Snakemake compares parameters by repr, so two spellings of one setting would retrain.
    """
    if isinstance(value, Mapping):
        return dict(sorted((key_of(key), normalise(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return [normalise(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def parse_changes(words: Sequence[str]) -> dict[str, Any]:
    """Read `KEY=VALUE` words as Snakemake's `--config` does, or raise StudyError.

    Nested values stay text, which `machine_settings` reads.
    """
    pairs = [word.partition("=") for word in words]
    wrong = [name for name, sign, _ in pairs if not sign]
    if wrong:
        raise StudyError(f"--config {wrong[0]}: give it as KEY=VALUE")
    return {name: _loaded(value) for name, _, value in pairs}


def _loaded(value: str) -> Any:
    try:
        return yaml.load(value, Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        return value


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings, where later layers win key by key."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old: Any = merged.get(key)
            nested = isinstance(old, Mapping) and isinstance(value, Mapping)
            merged[key] = merge(old, value) if nested else value
    return merged


def validate(document: Any, schema: Mapping[str, Any], source: str) -> None:
    """Check a document against a JSON schema.

    Raises:
        StudyError: names the source, the key's path and what was expected. For an unknown key it
            names the nearest known one and what that means. A number that nothing can use is an
            error too.
    """
    if found := schema_problems(document, schema, source):
        raise StudyError(found[0])


def schema_problems(document: Any, schema: Mapping[str, Any], source: str) -> list[str]:
    """List all that `validate` would refuse, the worst first."""
    # Most processes that read settings check none: this takes a third of a job's own start.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    unusable = [f"{source}: {problem}" for problem in unusable_numbers(document)]
    errors = list(Draft202012Validator(schema).iter_errors(document))
    if unusable or not errors:
        return unusable
    # A misspelt key often breaks other rules as well; it is the error worth naming.
    unknown = [error for error in _leaves(errors) if error.validator == "additionalProperties"]
    worst = unknown or [best_match(iter(errors))]
    others = [best_match(iter([error])) for error in errors]
    told = (f"{source}: {_explain(error)}{_meaning(error, schema)}" for error in (*worst, *others))
    return list(dict.fromkeys(told))


def check_name(kind: str, name: str, known: Iterable[str], source: str, advice: str = "") -> None:
    """Raise StudyError unless `name` is known, naming the nearest known name.

    The message ends in `advice`.
    """
    names = sorted(known)
    if name not in names:
        raise StudyError(
            f"{source}: unknown {kind} {name!r}{nearest(name, names)}; "
            f"known: {', '.join(names) or 'none'}{advice}"
            f"{describe(_study_schema(), path_of(source))}"
        )


@cache
def _study_schema() -> Any:
    """Read the schema of a study, empty where the package lies apart from the workflow."""
    path = STUDY_SCHEMA
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _meaning(error: ValidationError, root: Mapping[str, Any]) -> str:
    """Say what the key at fault means.

    For an unknown key, that is the meaning of the known one most like it.
    """
    path: list[Any] = list(error.absolute_path)
    schema: Any = error.schema
    given: Any = error.instance
    if error.validator == "not":  # its description is the message itself
        return ""
    if error.validator == "additionalProperties":
        known = sorted(schema.get("properties", {}))
        path.append(closest(min(given.keys() - set(known)), known))
    if error.validator in ("required", "dependentRequired"):
        path.append(error.message.split("'")[1])
    return describe(root, path)


def _leaves(errors: Iterable[ValidationError]) -> list[ValidationError]:
    found: list[ValidationError] = []
    for error in errors:
        found += _leaves(error.context) if error.context else [error]
    return found


def _is_valid(text: str | None, schema: Mapping[str, Any]) -> bool:
    """Check whether a text is what a schema of texts asks for."""
    from jsonschema import Draft202012Validator

    own = {name: value for name, value in schema.items() if name in OF_TEXTS}
    return text is not None and bool(Draft202012Validator(own).is_valid(text))


def _explain(error: ValidationError) -> str:
    where = ".".join(map(str, error.absolute_path)) or "top level"
    schema: Any = error.schema
    expected: Any = error.validator_value
    found: Any = error.instance
    if error.validator == "additionalProperties":
        known = sorted(schema.get("properties", {}))
        extra = sorted(set(found) - set(known))
        hints = "; ".join(f"{key!r}{nearest(key, known)}" for key in extra)
        return f"{where}: unknown key {hints}; known keys: {', '.join(known)}"
    if error.validator == "type":
        kinds = [expected] if isinstance(expected, str) else expected
        # YAML takes some text for a number or a truth value.
        is_text = "string" in kinds and isinstance(found, bool | int | float)
        if is_text and not _is_valid(text_of(found), schema) and "patternErrorMessage" in schema:
            return f"{where}: {schema['patternErrorMessage']}, but found {found!r}"
        quoted = is_text and _is_valid(text_of(found), schema)
        advice = f'; put it in quotation marks ("{text_of(found)}")' if quoted else ""
        wanted = " or ".join(TYPES[kind] for kind in kinds)
        return f"{where}: expected {wanted}, but found {found!r}{advice}"
    if error.validator == "enum":
        known = [str(value) for value in expected]
        hint = nearest(str(found), known)
        return f"{where}: {found!r} is not known{hint}; known: {', '.join(known)}"
    if error.validator == "anyOf" and all(part.keys() & {"type", "const"} for part in expected):
        words = [str(part["const"]) for part in expected if "const" in part]
        known = [*(TYPES[part["type"]] for part in expected if "type" in part), *words]
        hint = nearest(found, words) if isinstance(found, str) else ""
        return f"{where}: expected {' or '.join(known)}, but found {found!r}{hint}"
    if error.validator == "pattern" and "patternErrorMessage" in schema:
        return f"{where}: {schema['patternErrorMessage']}, but found {found!r}"
    if error.validator == "not" and "description" in schema:
        return f"{where}: {schema['description']}"
    if error.validator in ("required", "dependentRequired"):
        return f"{where}: {error.message}; add it"
    return f"{where}: {error.message}"
