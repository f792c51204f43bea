"""Read a study file with the study that it extends."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longwatt.config.documents import check_name, merge, normalise, read_yaml, validate
from longwatt.config.errors import StudyError
from longwatt.config.expansion import write_out
from longwatt.layout.escaping import mended, unusable_text

CHANGES_NO_RESULT = "It reads settings, which are digested themselves."

STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def read_study(path: Path, schema_path: Path) -> dict[str, Any]:
    """Read, check and normalise one study file.

    The file is merged over the one that it extends, and its lists are written out. See
    workflow/schemas/study.schema.json.
    """
    document = normalise(mended(_with_base(path, ())))
    if problem := unusable_text(document):
        raise StudyError(f"{path}: {problem}")
    validate(document, json.loads(schema_path.read_text(encoding="utf-8")), str(path))
    return write_out(document, str(path))


def _with_base(path: Path, extended_by: tuple[str, ...]) -> Any:
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
        expected = "expected the name of a study beside this one"
        raise StudyError(f"{path}: extends: {expected}, but found {base!r}")
    if base in chain:
        raise StudyError(f"{path}: `extends` goes round in a circle: {' -> '.join([*chain, base])}")
    own = {key: value for key, value in document.items() if key != "extends"}
    inherited = _with_base(path.with_name(f"{base}.yaml"), chain)
    for name, claim in (own.get("claims") or {}).items():
        if claim is None:
            check_name("claim to take away", name, inherited.get("claims", {}), f"{path}: claims")
    merged = merge(inherited, own)
    if facts := (merged.get("published") or {}).get("datasets"):
        kept = {name: fact for name, fact in facts.items() if fact is not None}
        merged["published"]["datasets"] = kept
    return {key: value for key, value in merged.items() if value is not None}
