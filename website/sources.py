"""Gather the pages of the site in one folder.

Pages are written to be read in the repository, as GitHub shows them. The site has other addresses
for pages that lie outside docs/, and its reader of Markdown wants lists indented by four columns.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

# Pages outside docs/, and their places in the site.
OUTSIDE = {
    "README.md": "index.md",
    "docs/README.md": "all_pages.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "AGENTS.md": "project/agents.md",
    "CHANGELOG.md": "project/changelog.md",
}
SHOWN = "source"  # the folder of the site with files that pages link to, shown as code
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".smk": "python", ".json": "json"}
MADE = re.compile(r"\A<!--.*?-->\s*", flags=re.DOTALL)  # "Made by `make docs` ..."
FENCE = re.compile(r"^ *(```+)")
TITLED_FENCE = re.compile(r"^( *```+)([\w-]+) +(\S+)$")
LINK = re.compile(r"\]\((?![a-z]+:)([^)\s#]+)")
ITEM = re.compile(r"( *)([-*]|\d+\.)( +)\S")
OPENING, INSIDE = "opening", "inside"  # a line's part in a fenced block; its end counts as inside
INDENT = 4  # columns by which Python-Markdown wants whatever lies in a list item


def gather(root: Path, target: Path) -> None:
    """Write every page, image and linked file into a folder, as the generator reads them.

    Args:
        root: the project's folder.
        target: an empty folder.
    """
    shown: set[str] = set()
    for source in [*OUTSIDE, *_below_docs(root)]:
        page = target / place(source)
        page.parent.mkdir(parents=True, exist_ok=True)
        if page.suffix == ".md":
            text = (root / source).read_text(encoding="utf-8")
            page.write_text(as_site(text, source, root), encoding="utf-8")
            shown |= set(_files_shown(text, source, root))
        else:
            shutil.copyfile(root / source, page)
    for name in sorted(shown):
        page = target / place(name)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(as_code(name, (root / name).read_text(encoding="utf-8")), encoding="utf-8")


def _below_docs(root: Path) -> list[str]:
    files = (path for path in sorted((root / "docs").rglob("*")) if path.is_file())
    return [name for path in files if (name := path.relative_to(root).as_posix()) not in OUTSIDE]


def place(source: str) -> str:
    """Return where the site has a file of the project. Both paths are relative."""
    if source in OUTSIDE:
        return OUTSIDE[source]
    inside = source.removeprefix("docs/")
    return inside if inside != source else f"{SHOWN}/{source}.md"


def as_site(text: str, source: str, root: Path) -> str:
    """Return a page's text with links, fences and lists as the site needs them."""
    told = MADE.sub("", text)
    return indent_by_four("\n".join(_lines(told, source, root))) + "\n"


def as_code(name: str, text: str) -> str:
    """Return a page that shows a file of the project as it is."""
    language = LANGUAGES.get(Path(name).suffix, "text")
    ticks = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"# {name}\n\nThe file `{name}` of the project.\n\n{ticks}{language}\n{text}\n{ticks}\n"


def _lines(text: str, source: str, root: Path) -> Iterator[str]:
    for line, part in fenced(text):
        if part == OPENING:
            yield TITLED_FENCE.sub(r'\1\2 title="\3"', line)
        else:
            yield line if part else LINK.sub(lambda link: _moved(link[1], source, root), line)


def fenced(text: str) -> Iterator[tuple[str, str]]:
    """Yield every line with its part in a fenced block, or an empty text."""
    fence = ""
    for line in text.splitlines():
        found = FENCE.match(line)
        if found and not fence:
            fence = found[1]
            yield line, OPENING
        else:
            yield line, INSIDE if fence else ""
            fence = "" if found and found[1].startswith(fence) else fence


def _moved(target: str, source: str, root: Path) -> str:
    """Return the beginning of a link, to where the site has the file."""
    found = _linked(target, source)
    if not (root / found).is_file():
        return f"]({target}"  # the generator names the page, and refuses
    return f"]({os.path.relpath(place(found), Path(place(source)).parent)}"


def _linked(target: str, source: str) -> str:
    return os.path.normpath(Path(source).parent / target)


def _files_shown(text: str, source: str, root: Path) -> Iterator[str]:
    for target in LINK.findall(text):
        found = _linked(target, source)
        if place(found).startswith(f"{SHOWN}/") and (root / found).is_file():
            yield found


def indent_by_four(text: str) -> str:
    """Indent what lies in list items by four columns a level, whatever their markers' width.

    A blank line goes before an item whose predecessor has several paragraphs.
    """
    columns: list[int] = []  # of the contents of the list items that a line lies in
    lines = [""]
    loose = False
    for line, part in fenced(text):
        indent = len(line) - len(line.lstrip(" "))
        while part != INSIDE and columns and line.strip() and indent < columns[-1]:
            columns.pop()
        beyond = indent - (columns[-1] if columns else 0)
        item = ITEM.match(line) if not part and beyond < INDENT else None
        loose = (loose or not line.strip()) and bool(columns or item)
        lines += [""] if item and loose and lines[-1].strip() else []
        lines.append((" " * (INDENT * len(columns) + beyond) + line.lstrip(" ")).rstrip())
        if item:
            columns.append(sum(map(len, item.groups())))
            loose = False
    return "\n".join(lines[1:])
