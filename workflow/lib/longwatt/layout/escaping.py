"""Escape a study's texts for HTML, Markdown, CSV and a report's labels.

Titles, claims and labels are words, and mean nothing in the language around them. Figures have no
language of their own: `longwatt.layout.drawing` turns matplotlib's off.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from longwatt.provenance.stamps import digest

# Punctuation that means something inside a paragraph: code, emphasis, HTML, formulas, entities,
# links, headings' ends. An underscore or an ampersand inside a word or a number stays, so that
# names of columns can be read.
INLINE = re.compile(r"[\\`*~$]|(?<!\w)_|_(?!\w)|<(?=[A-Za-z/!?])|&(?=#|\w+;)|](?=[(\[:])|(?<!\S)#")
# What would make a list, a quotation, a heading's line or a rule of a paragraph.
OPENING = re.compile(r"^(\d{1,9})(?=[.)](?:\s|$))|^(?=[-+>](?:\s|$)|[-=>])")
JOINER = "\u2060"  # WORD JOINER: takes no room and forbids no reading
FORMULA = re.compile(r"[=@]|[+-](?![\d.,]|$)")  # what spreadsheets take for one; a number is none
# Keys of texts for people.
SHOWN_KEYS = {"title", "statement", "source", "reason", "table", "currency"}


def in_one_line(text: str) -> str:
    """Join a text's lines, each run of white space as one blank."""
    return " ".join(text.split())


def in_html(text: str) -> str:
    """Write a text so that HTML shows it, in an element or a quoted attribute."""
    return html.escape(text)


def in_markdown(text: str) -> str:
    """Write a text as one paragraph of Markdown that shows it."""
    return OPENING.sub(lambda found: f"{found[0]}\\", in_markdown_cell(text, bar="|"))


def in_markdown_cell(text: str, bar: str = r"\|") -> str:
    """Escape a text for a cell of a Markdown table, or for a line."""
    return INLINE.sub(r"\\\g<0>", in_one_line(text)).replace("|", bar)


def in_csv(text: str) -> str:
    """Escape a text for CSV, so that no spreadsheet takes it for a formula."""
    return f"'{text}" if FORMULA.match(text) else text


def in_report_label(text: str) -> str:
    """Escape a text for a label of Snakemake's report, where wildcards are looked for.

    The report's page writes labels as JSON inside a `<script>` element, which knows no escape that
    labels could use. An invisible joiner keeps `</script` and `<!--` from being one word, and
    `{name}` from being a wildcard.
    """
    return re.sub(r"[<{]", rf"\g<0>{JOINER}", in_one_line(text))


class Undisclosed(dict[str, Any]):
    """Settings that print as their digest, and are a dictionary otherwise.

    The report repeats the parameters of a job beside each of its files, unescaped. `repr` stays
    that of a dictionary, by which Snakemake tells whether parameters have changed.
    """

    def __str__(self) -> str:
        return f"sha256 {digest(self)}"


def mended(document: Any) -> Any:
    """Join characters of a document that a JSON in YAML has written as two halves."""
    if isinstance(document, Mapping):
        return {mended(key): mended(value) for key, value in document.items()}
    if isinstance(document, list):
        return [mended(value) for value in document]
    if isinstance(document, str) and not document.isascii():
        return document.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return document


def unusable_text(document: Any, where: str = "") -> str | None:
    """Name a text that no file can hold or page can show, or None."""
    found: list[str | None] = []
    if isinstance(document, Mapping):
        found = [_unusable_in(str(key), where or "top level", shown=True) for key in document]
        prefix = f"{where}." if where else ""
        found += [unusable_text(value, f"{prefix}{key}") for key, value in document.items()]
    elif isinstance(document, list):
        found = [unusable_text(value, f"{where}[{n}]") for n, value in enumerate(document)]
    elif isinstance(document, str):
        found = [_unusable_in(document, where, where.rpartition(".")[2] in SHOWN_KEYS)]
    return next(filter(None, found), None)


def _unusable_in(text: str, where: str, shown: bool) -> str | None:
    bad = ("Cs", "Cc") if shown else ("Cs",)
    for place, character in enumerate(text, start=1):
        kind = unicodedata.category(character)
        if kind in bad and not character.isspace():
            what = "is half of a character" if kind == "Cs" else "cannot be shown"
            return f"{where}: U+{ord(character):04X} (place {place}) {what}; take it out"
    return None
