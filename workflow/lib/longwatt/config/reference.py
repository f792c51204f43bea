"""Write docs/reference/study.md and config.md from the schemas.

`make docs` runs `python -m longwatt.config.reference`, and a test compares its pages with the
committed files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from textwrap import TextWrapper, fill
from typing import Any

import yaml

from longwatt import command_line
from longwatt.config.schema_paths import Schema, below, parts_of
from longwatt.shipped import ROOT

TITLES = {"study": "A study file, key by key", "config": "config.yaml, key by key"}
PAGE_WIDTH = 100
KIND_NAMES = {"array": "list", "boolean": "true or false", "integer": "whole number"}
KIND_NAMES |= {"number": "number", "object": "mapping", "string": "text", "null": "`null`"}
LIMITS = {"minimum": "from", "exclusiveMinimum": "above"}
LIMITS |= {"maximum": "to", "exclusiveMaximum": "below"}


def pages() -> dict[Path, str]:
    """Return the text of every page, by its path."""
    found = {}
    for name, title in TITLES.items():
        path = f"workflow/schemas/{name}.schema.json"
        schema = json.loads((ROOT / path).read_text(encoding="utf-8"))
        note = f"<!-- Made by `make docs` from {path}: change that file instead. -->"
        text = "\n\n".join([note, f"# {title}", *_Page(schema).blocks()])
        found[ROOT / f"docs/reference/{name}.md"] = f"{text}\n"
    return found


class _Page:
    """The reference page of one schema."""

    def __init__(self, root: Schema) -> None:
        self.root = root
        sections = {one.get("$ref"): name for name, one in root["properties"].items()}
        text = json.dumps(root)
        parts = {f"#/$defs/{name}": one for name, one in root.get("$defs", {}).items()}
        # A part that several places share is described once: in its section, or in an extra one.
        having_keys = {key: one for key, one in parts.items() if "properties" in one}
        shared = {key: one for key, one in having_keys.items() if text.count(f'"{key}"') > 1}
        self.headings = {key: sections.get(key) or str(one["title"]) for key, one in shared.items()}
        self.extra = [one for key, one in shared.items() if key not in sections]

    def blocks(self) -> Iterator[str]:
        """Yield paragraphs, examples and lists from the top to the end of the page."""
        yield fill(self.root["description"], PAGE_WIDTH)
        entire = [self.root, *([self.root["else"]] if "else" in self.root else [])]
        headings = [*self.root["properties"], *(one["title"] for one in self.extra)]
        yield "\n".join(f"- [{heading}]({_anchor(heading)})" for heading in headings)
        for name in self.root["properties"]:
            here = self._at(entire, name)
            yield f"## {name}"
            facts = self._facts(here[0], name, entire)
            yield fill(f"{here[0]['description']} Type: {facts}.", PAGE_WIDTH)
            yield from (_example({name: example}) for example in here[0].get("examples", ()))
            yield from self._list(here)
        for one in self.extra:
            yield f"## {one['title']}"
            yield fill(one["description"], PAGE_WIDTH)
            yield from self._list([one])

    def _list(self, here: Sequence[Schema]) -> list[str]:
        lines = "\n".join(self._bullets(here, ""))
        return [lines] if lines else []

    def _bullets(self, here: Sequence[Schema], indent: str) -> Iterator[str]:
        """Yield a bullet for every key of a mapping, its entries or its items."""
        holders = self._holders(here)
        for name in dict.fromkeys(key for one in holders for key in self._keys(one)):
            found = self._at(holders, name)
            link = self.headings.get(found[0].get("$ref", ""))
            text = f"- `{name}` ({self._facts(found[0], name, holders)}): {found[0]['description']}"
            text += f" Its keys: [{link}]({_anchor(link)})." if link else ""
            yield TextWrapper(PAGE_WIDTH, indent, f"{indent}  ", break_on_hyphens=False).fill(text)
            if not link:
                yield from self._bullets(found, f"{indent}  ")

    def _holders(self, here: Sequence[Schema]) -> Sequence[Schema]:
        """Descend to the nearest schemas with keys, these or their entries or items."""
        if any(self._keys(one) for one in here):
            return here
        entries = [entry for one in here for key in ("", 0) for entry in below(one, self.root, key)]
        return self._holders(entries) if entries else []

    def _at(self, here: Sequence[Schema], name: str) -> list[Schema]:
        return [found for one in here for found in below(one, self.root, name)]

    def _keys(self, schema: Schema) -> list[str]:
        return [key for part in parts_of(schema, self.root) for key in part.get("properties", ())]

    def _facts(self, schema: Schema, name: str, holders: Sequence[Schema]) -> str:
        """Give a key's type, its default, and if it is needed."""
        own = [part for one in holders for part in parts_of(one, self.root, branches=False)]
        facts = [self._kind(schema)]
        if any(name in part.get("required", ()) for part in own):
            facts.append("needed")
        if schema.get("default") is not None:
            facts.append(f"default `{_shown(schema['default'])}`")
        return ", ".join(facts)

    def _kind(self, schema: Schema, of_several: str = "") -> str:
        """Say which values a schema takes, with `of_several` as a plural's ending."""
        one: dict[str, Any] = {}
        for part in parts_of(schema, self.root, branches=False):
            one = {**part, **one}
        if "anyOf" in one:
            return _either(self._kind(part) for part in one["anyOf"])
        if "enum" in one or "const" in one:
            return _either(f"`{_shown(value)}`" for value in one.get("enum", [one.get("const")]))
        limits = "".join(f" {word} {one[key]}" for key, word in LIMITS.items() if key in one)
        items = f" of {self._kind(one['items'], 's')}" if "items" in one else ""
        more = {"number": limits, "integer": limits, "array": items}
        given = one.get("type", "object")
        kinds = [given] if isinstance(given, str) else given
        return _either(f"{KIND_NAMES[kind]}{of_several}{more.get(kind, '')}" for kind in kinds)


def _either(words: Iterable[str]) -> str:
    """Join words by commas and an `or`, with null last."""
    *some, last = sorted(dict.fromkeys(words), key="`null`".__eq__)
    return f"{', '.join(some)} or {last}" if some else last


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _anchor(heading: str) -> str:
    return f"#{heading.lower().replace(' ', '-')}"


def _example(document: dict[str, Any]) -> str:
    """Show a document as YAML, numbers as lengths, leaves on one line if they fit."""
    nested = any(isinstance(value, dict | list) for value in document.values())
    data, wide = _numbered(document), 10 * PAGE_WIDTH
    for style in (None, False) if nested else (False,):
        dumped = yaml.safe_dump(data, sort_keys=False, default_flow_style=style, width=wide)
        if max(map(len, dumped.splitlines())) <= PAGE_WIDTH:
            break
    return f"```yaml\n{dumped}```"


def _numbered(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbered(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {int(key) if key.isdigit() else key: _numbered(item) for key, item in value.items()}


def main() -> int:
    """Write every page of the reference. Returns the exit status."""
    for page, written in pages().items():
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(written, encoding="utf-8")
    return 0


if __name__ == "__main__":
    command_line.run_command(main)
