"""Read the site's navigation out of docs/README.md, the list of all pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# A heading of docs/README.md ends with the kind that its pages are: "Learn by doing (tutorials)".
HEADING = re.compile(r"^## .*\((?P<kind>[^)]+)\)$")
GROUP = re.compile(r"^(?P<group>[A-Z][^\[\]:]*):$")
LINK = re.compile(r"\]\((?P<target>[^)\s#:]+\.md)(?:#[^)\s]*)?\)")

Navigation = list[Any]  # MkDocs's own form: pages, and {title: pages}


def kinds(start_page: Path) -> dict[str, Navigation]:
    """Return the pages of each kind, in the start page's order and groups.

    Pages that it names above its first heading are of the kind "Home".

    Args:
        start_page: docs/README.md. Links are relative to its folder.

    Returns:
        Kind, such as "Tutorials", to pages (`tutorial/own_data.md`) and groups of pages.
    """
    pages: Navigation = []
    place, found = pages, {"Home": pages}
    listed: set[str] = set()
    for line in start_page.read_text(encoding="utf-8").splitlines():
        if heading := HEADING.match(line):
            place = pages = found.setdefault(heading["kind"].capitalize(), [])
        elif group := GROUP.match(line):
            place = []
            pages.append({group["group"]: place})
        for target in LINK.findall(line):
            if target not in listed:
                place.append(target)
                listed.add(target)
    return found


def pages_of(navigation: Navigation) -> Iterator[str]:
    """Yield the pages of a navigation, those of its groups too."""
    for entry in navigation:
        if isinstance(entry, str):
            yield entry
        else:
            for part in entry.values():
                yield from pages_of([part] if isinstance(part, str) else part)
