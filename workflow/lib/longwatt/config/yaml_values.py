"""Read YAML as people write it.

Keys have one spelling, types bring no surprises, and numbers are ones that can be used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from longwatt.canonical import text_of
from longwatt.config.errors import StudyError

CHANGES_NO_RESULT = "It reads settings, which are digested themselves."

LARGEST_INTEGER = 2**63 - 1  # nothing that reads a setting takes a larger whole number
_TAG = "tag:yaml.org,2002:"
# PyYAML follows YAML 1.1, where 2e-5 (no dot) is text, while `no`, 010, 12:30 and 2024-01-01 are
# false, 8, 750 and a date. YAML 1.2 and every user mean a number, and text.
_RESOLVERS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
_REPLACED = (*(_TAG + name for name in _RESOLVERS), _TAG + "timestamp")


class Loader(yaml.SafeLoader):
    """Loader that refuses duplicate keys, spells keys as text and types as YAML 1.2."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._flattened: set[yaml.MappingNode] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse duplicate keys of a mapping, then put what it merges before its own keys.

        A mapping that another one merges passes here before it is constructed. Afterwards its keys
        stand beside those that they overrule, so each mapping is looked at once.
        """
        if node in self._flattened:
            return
        self._flattened.add(node)
        _refuse_duplicates(self, node)
        super().flatten_mapping(node)


def key_of(value: Any) -> str:
    """Spell a mapping's key as text: true, null and 1 (also of 1.0)."""
    if isinstance(value, str):
        return value
    return "null" if value is None else text_of(value) or str(value)


def unusable_numbers(value: Any, where: str = "") -> Iterator[str]:
    """Yield an error for every NaN, infinite number and whole number above LARGEST."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from unusable_numbers(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from unusable_numbers(item, f"{where}.{place}" if where else str(place))
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{where}: expected a finite number, but found {value} (NaN, infinite or too large)"
    elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        found = f"found one of {value.bit_length()} bits"
        yield f"{where}: expected a number that is at most {LARGEST_INTEGER}, but {found}"


def _refuse_duplicates(loader: Loader, node: yaml.MappingNode) -> None:
    own = [key for key, _ in node.value if key.tag != f"{_TAG}merge"]  # `<<:` may be overridden
    keys = [_key(loader, key) for key in own]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise StudyError(
            f"{node.start_mark.name}, line {node.start_mark.line + 1}: "
            f"the key {', '.join(twice)} is given twice in one mapping; keep one"
        )


def _mapping(loader: Loader, node: yaml.MappingNode) -> dict[str, Any]:
    loader.flatten_mapping(node)
    return {_key(loader, k): loader.construct_object(v, deep=True) for k, v in node.value}


def _key(loader: Loader, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        expected = "expected a key of one word or number, but found a list or mapping"
        raise yaml.constructor.ConstructorError(None, None, expected, node.start_mark)
    return key_of(loader.construct_object(node, deep=True))


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in _REPLACED]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, (_pattern, _first) in _RESOLVERS.items():
    Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), list(_first))
