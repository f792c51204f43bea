"""Check exports by the published schemas of their formats before they are written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from longwatt.shipped import SCHEMAS

BOAMPS_SCHEMAS = ("report", "algorithm", "dataset", "measure", "hardware")
MODEL_CARD_SCHEMA = "model_card.schema.json"


def boamps_problems(report: Mapping[str, Any]) -> list[str]:
    """Say what BoAmps' schemas hold against a report, with the place of each problem."""
    from jsonschema import Draft4Validator
    from referencing import Registry
    from referencing.jsonschema import DRAFT4

    schemas = [_read(f"boamps/{name}_schema.json") for name in BOAMPS_SCHEMAS]
    known = [(schema["id"], DRAFT4.create_resource(schema)) for schema in schemas]
    registry: Any = Registry().with_resources(known)
    return _problems(Draft4Validator(schemas[0], registry=registry), report)


def model_card_problems(metadata: Mapping[str, Any]) -> list[str]:
    """Say what the hub's specification of metadata holds against that of a model card."""
    from jsonschema import Draft202012Validator

    return _problems(Draft202012Validator(_read(MODEL_CARD_SCHEMA)), metadata)


def _problems(validator: Any, document: Any) -> list[str]:
    errors = sorted(validator.iter_errors(document), key=lambda error: list(error.absolute_path))
    return [f"{'.'.join(map(str, one.absolute_path)) or 'top'}: {one.message}" for one in errors]


@cache
def _read(name: str) -> Any:
    return json.loads(Path(SCHEMAS, name).read_text(encoding="utf-8"))
