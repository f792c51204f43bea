"""Find what a JSON schema says of one key of a document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
# Keywords whose schemas speak of the same value as the schema that holds them.
_BRANCHES = ("then", "else")


def parts_of(schema: Schema, root: Schema, branches: bool = True) -> Iterator[Schema]:
    """Yield a schema and all that speak of the same value.

    Args:
        schema: the schema to start with, yielded first.
        root: the schema of the whole document, to which references point.
        branches: also follow conditions and alternatives, which hold for some values only.
    """
    yield schema
    if "$ref" in schema:
        referred: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            referred = referred[part]
        yield from parts_of(referred, root, branches)
    if branches:
        others = [*(schema[key] for key in _BRANCHES if key in schema), *schema.get("anyOf", ())]
        for part in others:
            yield from parts_of(part, root)


def below(schema: Schema, root: Schema, key: str | int | None) -> list[Schema]:
    """List the schemas for one key of a mapping, or for a list's items."""
    found: list[Any] = []
    for part in parts_of(schema, root):
        if isinstance(key, int):
            found.append(part.get("items"))
        elif key is not None:
            found.append(part.get("properties", {}).get(key, part.get("additionalProperties")))
    return [one for one in found if isinstance(one, Mapping)]


def describe(root: Schema, path: Iterable[str | int | None]) -> str:
    """Say what a key means, on a line of its own: `KEY: description`.

    Args:
        root: the schema of the whole document.
        path: keys and list indices from the top of the document, None for an unknown key.

    Returns:
        A line break and the line. For an item of a list, the line is that of the list. Empty where
        the schema says nothing.
    """
    found, here = "", [root]
    for key in path:
        here = [schema for parent in here for schema in below(parent, root, key)]
        if not here:
            return ""
        texts = (part.get("description") for one in here for part in parts_of(one, root))
        text = next(filter(None, texts), None)
        if text and isinstance(key, str):
            found = f"\n  {key}: {text}"
    return found


def path_of(where: str) -> list[str | int | None]:
    """Read a path as messages spell it: `FILE: grid[0].models`, `figures[1] (mine).costs`."""
    spelt = re.sub(r" \([^)]*\)", "", where.rpartition(": ")[2])
    words = re.findall(r"\[(\d+)\]|([^.\[\]]+)", spelt)
    return [int(place) if place else key for place, key in words]
