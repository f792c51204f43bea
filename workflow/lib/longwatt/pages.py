"""A page of sentences, tables and figures, as Markdown and as HTML; sentences are words, without markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from longwatt.escaping import in_html, in_markdown, in_markdown_cell

NA = "NA"  # what is not known

STYLE = (
    "body{font:14px/1.45 sans-serif;margin:1.5em;max-width:76em}table{border-collapse:collapse;margin:.6em 0 1.4em}"
    "th,td{padding:.3em .7em;border-bottom:1px solid #ccc;text-align:right;vertical-align:top}"
    "td{white-space:nowrap}th{border-bottom:2px solid #666}.words{text-align:left;white-space:normal}"
    "img{max-width:100%}h2{margin-top:2em}h3{font-size:1em;margin:1.2em 0 .2em}"
    ".good,.bad,.open{font-weight:bold;white-space:nowrap}.good{color:#1a6b2d}.bad{color:#a3141f}.open{color:#7a5c00}"
)


@dataclass(frozen=True)
class Table:
    """Rows with equal keys.

    Attributes:
        rows: texts by column.
        words: columns of words, which stand to the left; numbers stand to the right.
        marks: texts that are coloured -> good, bad or open.
        links: a column whose texts are anchors of sections.
    """

    rows: Sequence[Mapping[str, str]]
    words: Sequence[str] = ()
    marks: Mapping[str, str] = field(default_factory=dict)
    links: str = ""


@dataclass(frozen=True)
class Labelled:
    """A paragraph after a word in bold; `mark` (good, bad or open) colours what stands before its first colon."""

    label: str
    text: str
    mark: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture beside the page.

    Attributes:
        file: its name.
        text: what it shows, for those who do not see it.
    """

    file: str
    text: str


Part = str | Labelled | Table | Picture


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; a text is one paragraph.

    Attributes:
        heading: may be empty.
        parts: in their order.
        level: of the heading; the page's title has 1.
        anchor: what links lead to.
    """

    heading: str
    parts: Sequence[Part] = field(default_factory=tuple)
    level: int = 2
    anchor: str = ""


def markdown(title: str, sections: Sequence[Section]) -> str:
    """The page as Markdown; the first section's heading may be empty."""
    lines = [f"# {in_markdown_cell(title)}"]
    for section in sections:
        lines += [f"{'#' * section.level} {in_markdown_cell(section.heading)}"] if section.heading else []
        lines += [_markdown_part(part) for part in section.parts]
    return "\n\n".join(lines) + "\n"


def as_html(title: str, sections: Sequence[Section]) -> str:
    """The page as one HTML file; pictures stay beside it."""
    lines = [f"<!doctype html><meta charset='utf-8'><title>{in_html(title)}</title><style>{STYLE}</style>"]
    lines.append(f"<h1>{in_html(title)}</h1>")
    for section in sections:
        lines += [_html_heading(section)] if section.heading else []
        lines += [_html_part(part) for part in section.parts]
    return "\n".join(lines) + "\n"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[str] = ()) -> str:
    """Texts as a Markdown table.

    Args:
        columns: headings.
        rows: a text for each column.
        words: columns of words, to the left; the others stand to the right.
    """
    rule = [":--" if column in words else "--:" for column in columns]
    return "\n".join([_markdown_line(columns), f"| {' | '.join(rule)} |", *map(_markdown_line, rows)])


def _markdown_line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(map(in_markdown_cell, texts))} |"


def _markdown_part(part: Part) -> str:
    if isinstance(part, str):
        return in_markdown(part)
    if isinstance(part, Labelled):
        return f"**{in_markdown_cell(part.label)}.** {in_markdown_cell(part.text)}"
    if isinstance(part, Picture):
        return f"![{in_markdown_cell(part.text)}]({part.file})"
    columns = list(part.rows[0])
    return markdown_table(columns, [[row[column] for column in columns] for row in part.rows], part.words)


def _html_heading(section: Section) -> str:
    anchor = f" id='{in_html(section.anchor)}'" if section.anchor else ""
    return f"<h{section.level}{anchor}>{in_html(section.heading)}</h{section.level}>"


def _html_part(part: Part) -> str:
    if isinstance(part, str):
        return f"<p>{in_html(part)}</p>"
    if isinstance(part, Labelled):
        return f"<p><b>{in_html(part.label)}.</b> {_html_marked(part)}</p>"
    if isinstance(part, Picture):
        return f"<p><img src='{in_html(part.file)}' alt='{in_html(part.text)}'></p>"
    columns = list(part.rows[0])
    rows = ["".join(_html_cell(part, column, row[column]) for column in columns) for row in part.rows]
    head = "".join(f"<th{_class(part, column)}>{in_html(column)}</th>" for column in columns)
    return f"<table><tr>{head}</tr>\n" + "\n".join(f"<tr>{row}</tr>" for row in rows) + "</table>"


def _html_cell(table: Table, column: str, text: str) -> str:
    said = in_html(text)
    linked = f"<a href='#{said}'>{said}</a>" if column == table.links else said
    return f"<td{_class(table, column, table.marks.get(text, ''))}>{linked}</td>"


def _class(table: Table, column: str, mark: str = "") -> str:
    names = " ".join(filter(None, ("words" if column in table.words else "", mark)))
    return f" class='{names}'" if names else ""


def _html_marked(part: Labelled) -> str:
    if not part.mark:
        return in_html(part.text)
    first, colon, rest = part.text.partition(":")
    return f"<span class='{part.mark}'>{in_html(first)}</span>{colon}{in_html(rest)}"
