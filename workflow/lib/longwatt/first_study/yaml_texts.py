"""Spell values, comments and paragraphs of a study file as a person would."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

from longwatt.config.yaml_values import Loader

COLUMNS_OF_STUDY = 100  # columns of a study file
PLAIN = re.compile(r"[A-Za-z_.][A-Za-z0-9_./-]*")


def quoted_text(text: str) -> str:
    """Spell a text as a YAML scalar, in quotation marks where it must."""
    if PLAIN.fullmatch(text) and yaml.load(text, Loader=Loader) == text:
        return text
    # JSON's text is YAML's too, but for characters that YAML forbids unescaped.
    spelt = json.dumps(text, ensure_ascii=False)
    return "".join(one if one.isprintable() else _escaped(one) for one in spelt)


def _escaped(character: str) -> str:
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"


def flow(value: Any) -> str:
    """Spell a value in one line, as `{a: 1, b: [x, y]}`."""
    if isinstance(value, Mapping):
        pairs = (f"{quoted_text(str(key))}: {flow(item)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return quoted_text(value) if isinstance(value, str) else spelt_number(value)


def block(entry: Mapping[str, Any], indent: int) -> str:
    """Spell a mapping line by line, its values in one line each where they fit."""
    before, lines = " " * indent, []
    for key, value in entry.items():
        line = f"{before}{quoted_text(str(key))}: {flow(value)}"
        if len(line) > COLUMNS_OF_STUDY and isinstance(value, Mapping):
            line = f"{before}{quoted_text(str(key))}:\n{block(value, indent + 2)}"
        lines.append(line)
    return "\n".join(lines)


def item(entry: Mapping[str, Any], indent: int) -> str:
    """Spell a mapping of a list, in one line where it fits."""
    line = flow(entry)
    return line if indent + len(line) <= COLUMNS_OF_STUDY else block(entry, indent).lstrip()


def spelt_number(value: float | str) -> str:
    """Spell a number so that YAML 1.2 reads one: 2e-05 needs its point."""
    text = f"{float(value):g}" if isinstance(value, str) else str(value)
    digits, sign, power = text.partition("e")
    return f"{digits}.0e{int(power)}" if sign and "." not in digits else text


def comment(text: str, indent: int = 0) -> str:
    """Wrap a paragraph as a comment, each of its lines with a mark."""
    mark = " " * indent + "# "
    lines = text.split("\n")
    return "\n".join(
        textwrap.fill(
            " ".join(line.split()),
            COLUMNS_OF_STUDY,
            initial_indent=mark,
            subsequent_indent=mark,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in lines
    )


def folded(text: str) -> str:
    """Wrap a paragraph for a folded scalar that is indented by two."""
    lines = textwrap.wrap(" ".join(text.split()), COLUMNS_OF_STUDY - 2, break_long_words=False)
    return "\n  ".join(lines)
