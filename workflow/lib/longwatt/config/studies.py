"""Read a study file with the study that it extends."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longwatt.config.documents import (
    check_name,
    merge,
    normalise,
    read_yaml,
    schema_problems,
    validate,
)
from longwatt.config.errors import StudyError
from longwatt.config.expansion import write_out
from longwatt.layout.escaping import mended, unusable_text
from longwatt.shipped import STUDY_SCHEMA, study_file, study_folders, study_names
from longwatt.spelling import nearest

CHANGES_NO_RESULT = "It reads settings, which are digested themselves."

STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def find_study(name: str, folders: Sequence[Path], left_out: Sequence[str] = ()) -> Path:
    """Find a study's file by its name, in the first folder that has it.

    Raises:
        StudyError: none has it. Names the nearest study but those `left_out`.
    """
    if found := study_file(name, folders):
        return found
    known = [one for one in study_names(folders) if one not in left_out]
    others = [str(folder) for folder in folders[1:] if folder.is_dir()]
    looked = f" (looked also in {', '.join(others)})" if others else ""
    raise StudyError(
        f"{folders[0] / name}.yaml does not exist{nearest(name, known)}; "
        f"studies found: {', '.join(known) or 'none'}{looked}"
    )


def read_study(
    path: Path, schema_path: Path = STUDY_SCHEMA, folders: Sequence[Path] | None = None
) -> dict[str, Any]:
    """Read, check and normalise one study file.

    The file is merged over the one that it extends, and its lists are written out. See
    workflow/schemas/study.schema.json.

    Args:
        path: the study's file.
        schema_path: the schema of study files.
        folders: those in which a study that it extends is looked for, after its own folder.
    """
    document = _normal(path, study_folders() if folders is None else folders)
    validate(document, json.loads(schema_path.read_text(encoding="utf-8")), str(path))
    return write_out(document, str(path))


def study_problems(path: Path) -> list[str]:
    """List all that `read_study` would refuse in a file, each in a sentence."""
    try:
        document = _normal(path, study_folders())
        schema = json.loads(STUDY_SCHEMA.read_text(encoding="utf-8"))
        if found := schema_problems(document, schema, str(path)):
            return found
        write_out(document, str(path))
    except StudyError as error:
        return [str(error)]
    return []


def _normal(path: Path, folders: Sequence[Path]) -> Any:
    """Read a study with what it extends, its values in one spelling."""
    document = normalise(mended(_with_base(path, folders, ())))
    if problem := unusable_text(document):
        raise StudyError(f"{path}: {problem}")
    return document


def _with_base(path: Path, folders: Sequence[Path], extended_by: tuple[str, ...]) -> Any:
    """Lay a study file over the one that it `extends`.

    Mappings merge key by key; lists and values are replaced. A whole part of the other study is
    left out where this one gives nothing for it (`claims:`).

    Raises:
        StudyError: a file cannot be read, or extends itself in the end.
    """
    document = read_yaml(path, extended_by)
    if not isinstance(document, Mapping) or "extends" not in document:
        return document
    base, chain = document["extends"], (*extended_by, path.stem)
    if not (isinstance(base, str) and STUDY_NAME.fullmatch(base)):
        expected = "expected the name of a study"
        raise StudyError(f"{path}: extends: {expected}, but found {base!r}")
    if base in chain:
        raise StudyError(f"{path}: `extends` goes round in a circle: {' -> '.join([*chain, base])}")
    own = {key: value for key, value in document.items() if key != "extends"}
    places = list(dict.fromkeys([path.parent, *folders]))
    inherited = _with_base(find_study(base, places, chain), folders, chain)
    for name, claim in (own.get("claims") or {}).items():
        if claim is None:
            check_name("claim to take away", name, inherited.get("claims", {}), f"{path}: claims")
    merged = merge(inherited, own)
    if facts := (merged.get("published") or {}).get("datasets"):
        kept = {name: fact for name, fact in facts.items() if fact is not None}
        merged["published"]["datasets"] = kept
    return {key: value for key, value in merged.items() if value is not None}
