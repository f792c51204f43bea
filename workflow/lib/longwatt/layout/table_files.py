"""Tables of texts as files that people and other programs read: HTML, Markdown and CSV."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from longwatt.files import whole_file
from longwatt.layout.escaping import in_csv, in_markdown
from longwatt.layout.pages import HTML, markdown_table

TABLE_STYLE = (
    "body{font:14px sans-serif;margin:1.5em}table{border-collapse:collapse}"
    "th,td{padding:.35em .8em;border-bottom:1px solid #ccc;text-align:right;white-space:nowrap}"
    "th{border-bottom:2px solid #666}"
)
CAPTION_CLASS = "caption"
# Of a table with two rows of headings, which is wide: a group's heading over its columns, and lines
# of text that break.
GROUPED_STYLE = (
    "th,td{white-space:normal;padding:.35em .5em}td span{white-space:nowrap}"
    "thead tr:first-child th{text-align:center;border-bottom:1px solid #ccc}"
)
# An interval and a product are never broken.
UNBROKEN = re.compile(r"\([^()<>]+ to [^()<>]+\),?|[0-9]+ (?:=|&lt;) [0-9 x]+")
# A column of names, to the left; the others are numbers, to the right.
TEXTS = (
    "dataset", "datasets", "model", "metric", "tokenizer", "attention", "setting", "protocol",
    "budget", "table", "kind", "classifiers after layers", "rule",
)  # fmt: skip
UNBROKEN_TEXTS = ("dataset", "model", "table")


def write(folder: Path, name: str, table: pd.DataFrame) -> None:
    """Write a table as NAME.html, NAME.md and NAME.csv, its two headings joined in two."""
    flat = table.set_axis([_heading(c) for c in table.columns], axis="columns")
    words = [column for column in flat.columns if column in TEXTS]
    above = f"{in_markdown(caption_of(table))}\n\n" if caption_of(table) else ""
    markdown = markdown_table(list(flat.columns), flat.to_numpy().tolist(), words)
    commas = flat.map(in_csv, na_action="ignore").rename(columns=in_csv).to_csv(index=False)
    texts = {"html": _html(name, table), "md": f"{above}{markdown}\n", "csv": commas}
    for kind, text in texts.items():
        with whole_file(folder / f"{name}.{kind}", newline="") as stream:
            stream.write(text)


def captioned(table: pd.DataFrame, caption: str) -> pd.DataFrame:
    """Give a table a line above it, which says what all rows share."""
    table.attrs[CAPTION_CLASS] = caption
    return table


def caption_of(table: pd.DataFrame) -> str:
    """Return the line above a table, or '' if it has none."""
    return str(table.attrs.get(CAPTION_CLASS, ""))


def grouped(table: pd.DataFrame) -> pd.DataFrame:
    """Give a table two rows of headings, (group, name), with '' for no group."""
    return table.set_axis(pd.MultiIndex.from_tuples(map(tuple, table.columns)), axis="columns")


def _heading(column: Any) -> str:
    return ": ".join(filter(None, column)) if isinstance(column, tuple) else str(column)


TABLE_PAGE = HTML.from_string("""\
<!doctype html><meta charset='utf-8'><title>{{ title }}</title><style>{{ style }}</style>
{% if caption %}<p>{{ caption }}</p>{% endif %}
{{ table }}""")


def _html(name: str, table: pd.DataFrame) -> str:
    two = isinstance(table.columns, pd.MultiIndex)
    with pd.option_context("display.max_colwidth", None):  # texts are shown whole
        body = table.to_html(index=False, border=0, na_rep="")
    return TABLE_PAGE.render(
        title=name.replace("_", " ").capitalize(),
        style=Markup(TABLE_STYLE + (GROUPED_STYLE if two else "") + "".join(_column_styles(table))),
        caption=caption_of(table),
        table=Markup(UNBROKEN.sub(r"<span>\g<0></span>", body) if two else body),
    )


def _column_styles(table: pd.DataFrame) -> Iterator[str]:
    """Write the style of columns of names and of columns that begin a group."""
    for place, column in enumerate(table.columns, 1):
        if _heading(column) in TEXTS:
            yield f"tr:last-child th:nth-child({place}),td:nth-child({place}){{text-align:left}}"
            if _heading(column) in UNBROKEN_TEXTS:
                yield f"td:nth-child({place}){{white-space:nowrap}}"
        elif isinstance(column, tuple) and column[0] and column[0] != table.columns[place - 2][0]:
            yield f"td:nth-child({place}){{padding-left:1.6em}}"
