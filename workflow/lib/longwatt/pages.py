"""A page of sentences, tables and figures, as Markdown and as HTML."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

STYLE = (
    "body{font:14px/1.45 sans-serif;margin:1.5em;max-width:76em}table{border-collapse:collapse;margin:.6em 0 1.4em}"
    "th,td{padding:.3em .7em;border-bottom:1px solid #ccc;text-align:right;vertical-align:top}"
    "td{white-space:nowrap}th{border-bottom:2px solid #666}.words{text-align:left;white-space:normal}"
    "img{max-width:100%}"
)


@dataclass(frozen=True)
class Table:
    """Rows with equal keys.

    Attributes:
        rows: texts by column.
        words: columns of words, which stand to the left; numbers stand to the right.
    """

    rows: Sequence[Mapping[str, str]]
    words: Sequence[str] = ()


@dataclass(frozen=True)
class Picture:
    """A picture beside the page.

    Attributes:
        file: its name.
        text: what it shows, for those who do not see it.
    """

    file: str
    text: str


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; a text is one paragraph."""

    heading: str
    parts: Sequence[str | Table | Picture] = field(default_factory=tuple)


def markdown(title: str, sections: Sequence[Section]) -> str:
    """The page as Markdown; the first section's heading may be empty."""
    lines = [f"# {title}"]
    for section in sections:
        lines += [f"## {section.heading}"] if section.heading else []
        lines += [_markdown_part(part) for part in section.parts]
    return "\n\n".join(lines) + "\n"


def as_html(title: str, sections: Sequence[Section]) -> str:
    """The page as one HTML file; pictures stay beside it."""
    lines = [f"<!doctype html><meta charset='utf-8'><title>{html.escape(title)}</title><style>{STYLE}</style>"]
    lines.append(f"<h1>{html.escape(title)}</h1>")
    for section in sections:
        lines += [f"<h2>{html.escape(section.heading)}</h2>"] if section.heading else []
        lines += [_html_part(part) for part in section.parts]
    return "\n".join(lines) + "\n"


def _markdown_part(part: str | Table | Picture) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Picture):
        return f"![{part.text}]({part.file})"
    columns = list(part.rows[0])
    rule = [":--" if column in part.words else "--:" for column in columns]
    rows = [[row[column].replace("|", "\\|") for column in columns] for row in part.rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (columns, rule, *rows))


def _html_part(part: str | Table | Picture) -> str:
    if isinstance(part, str):
        return f"<p>{html.escape(part)}</p>"
    if isinstance(part, Picture):
        return f"<p><img src='{html.escape(part.file)}' alt='{html.escape(part.text)}'></p>"
    columns = list(part.rows[0])
    rows = ["".join(_html_cell("td", row[c], c in part.words) for c in columns) for row in part.rows]
    head = "".join(_html_cell("th", column, column in part.words) for column in columns)
    return f"<table><tr>{head}</tr>\n" + "\n".join(f"<tr>{row}</tr>" for row in rows) + "</table>"


def _html_cell(kind: str, text: str, words: bool) -> str:
    return f"<{kind}{' class=words' if words else ''}>{html.escape(text)}</{kind}>"
