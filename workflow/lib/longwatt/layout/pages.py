"""Pages of sentences, tables and figures as Markdown and HTML, all texts without markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup
from tabulate import tabulate

from longwatt.files import whole_file
from longwatt.layout.escaping import in_html, in_markdown, in_markdown_cell

PAGE_STYLE = (
    "body{font:14px/1.45 sans-serif;margin:1.5em;max-width:76em}"
    "table{border-collapse:collapse;margin:.6em 0 1.4em}"
    "th,td{padding:.3em .7em;border-bottom:1px solid #ccc;text-align:right;vertical-align:top}"
    "td{white-space:nowrap}th{border-bottom:2px solid #666}"
    ".words{text-align:left;white-space:normal}"
    "img{max-width:100%}h2{margin-top:2em}h3{font-size:1em;margin:1.2em 0 .2em}"
    ".good,.bad,.open{font-weight:bold;white-space:nowrap}.good{color:#1a6b2d}.bad{color:#a3141f}"
    ".open{color:#7a5c00}"
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
    """A paragraph after a bold word, coloured by `mark` up to its first colon."""

    label: str
    text: str
    mark: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture's file beside the page, and a text for who cannot see it."""

    file: str
    text: str


PagePart = str | Labelled | Table | Picture


@dataclass(frozen=True)
class Section:
    """A heading and its content, in which a text is one paragraph.

    Attributes:
        heading: may be empty.
        parts: in their order.
        level: of the heading; the page's title has 1.
        anchor: what links lead to.
    """

    heading: str
    parts: Sequence[PagePart] = field(default_factory=tuple)
    level: int = 2
    anchor: str = ""


def _shown(value: Any) -> Any:
    return value if isinstance(value, Markup) else Markup(in_html(str(value)))


HTML = Environment(autoescape=True, finalize=_shown, trim_blocks=True, lstrip_blocks=True)
PAGE = HTML.from_string("""\
{% macro kind(table, column, mark='') %}
{% set names = [column in table.words and 'words', mark] | select | join(' ') %}
{% if names %} class='{{ names }}'{% endif %}
{% endmacro %}
<!doctype html><meta charset='utf-8'><title>{{ title }}</title><style>{{ style }}</style>
<h1>{{ title }}</h1>
{% for section in sections %}
{% if section.heading %}
<h{{ section.level }}{% if section.anchor %} id='{{ section.anchor }}'{% endif %}>
{{- section.heading }}</h{{ section.level }}>
{% endif %}
{% for part in section.parts %}
{% if part is string %}
<p>{{ part }}</p>
{% elif part.label is defined %}
{% set first, colon, rest = part.text.partition(':') %}
<p><b>{{ part.label }}.</b> {% if part.mark %}
<span class='{{ part.mark }}'>{{ first }}</span>{% else %}{{ first }}{% endif %}
{{ colon }}{{ rest }}</p>
{% elif part.file is defined %}
<p><img src='{{ part.file }}' alt='{{ part.text }}'></p>
{% else %}
<table><tr>
{% for column in part.rows[0] %}<th{{ kind(part, column) }}>{{ column }}</th>{% endfor %}</tr>
{% for row in part.rows %}
<tr>
{% for column in part.rows[0] %}{% set text = row[column] %}
<td{{ kind(part, column, part.marks[text]) }}>
{%- if column == part.links %}<a href='#{{ text }}'>{{ text }}</a>{% else %}{{ text }}{% endif %}
</td>
{%- endfor %}</tr>
{% endfor %}</table>
{% endif %}
{% endfor %}
{% endfor %}
""")


def write_page(stem: Path, title: str, sections: Sequence[Section]) -> list[Path]:
    """Write a page as STEM.md and STEM.html, and return their paths."""
    texts = {".md": markdown(title, sections), ".html": as_html(title, sections)}
    for suffix, text in texts.items():
        with whole_file(stem.with_suffix(suffix)) as stream:
            stream.write(text)
    return [stem.with_suffix(suffix) for suffix in texts]


def as_html(title: str, sections: Sequence[Section]) -> str:
    """Write the page as one HTML file with pictures beside it."""
    return PAGE.render(title=title, style=Markup(PAGE_STYLE), sections=sections)


def markdown(title: str, sections: Sequence[Section]) -> str:
    """Write the page as Markdown, without a first heading where it is empty."""
    lines = [f"# {in_markdown_cell(title)}"]
    for section in sections:
        if section.heading:
            lines.append(f"{'#' * section.level} {in_markdown_cell(section.heading)}")
        lines += map(_markdown_part, section.parts)
    return "\n\n".join(lines) + "\n"


def _markdown_part(part: PagePart) -> str:
    match part:
        case str():
            return in_markdown(part)
        case Labelled():
            return f"**{in_markdown_cell(part.label)}.** {in_markdown_cell(part.text)}"
        case Picture():
            return f"![{in_markdown_cell(part.text)}]({part.file})"
    columns = list(part.rows[0])
    rows = [[row[column] for column in columns] for row in part.rows]
    return markdown_table(columns, rows, part.words)


def markdown_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[str] = ()
) -> str:
    """Write texts as a Markdown table.

    Args:
        columns: headings.
        rows: a text for each column.
        words: columns of words, to the left; the others stand to the right.
    """
    sides = ["left" if column in words else "right" for column in columns]
    head, *cells = ([in_markdown_cell(text) for text in row] for row in (columns, *rows))
    return str(tabulate(cells, head, tablefmt="pipe", colalign=sides, disable_numparse=True))
