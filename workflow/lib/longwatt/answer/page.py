"""Write the page that says which cell to take, as one file.

It needs no network. Its words, tables and claims are HTML. Scripts beside this module draw the
front and move the choice. The plot is Vega's, which Snakemake carries for its own report.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from longwatt.answer.page_facts import claim_rows, columns, page_facts, point_rows
from longwatt.answer.vega import packed_vega
from longwatt.files import whole_file
from longwatt.layout.pages import HTML

TEMPLATE, STYLE = "page.html", "page.css"
SCRIPTS = ("page_choice.js", "page_words.js", "page_plot.js", "page_table.js", "page_controls.js")
HERE = Path(__file__).parent


def write_answer_page(facts: Mapping[str, Any], path: Path) -> None:
    """Write the page of an answer, whole or not at all.

    Args:
        facts: what answer.json holds.
        path: the page, an .html.
    """
    with whole_file(path) as stream:
        stream.write(answer_page(facts))


def answer_page(facts: Mapping[str, Any]) -> str:
    """Return the page of an answer as HTML."""
    scripts = "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return HTML.from_string((HERE / TEMPLATE).read_text(encoding="utf-8")).render(
        facts=facts,
        columns=columns(facts),
        rows=point_rows(facts),
        claims=claim_rows(facts),
        style=Markup((HERE / STYLE).read_text(encoding="utf-8")),
        scripts=Markup(scripts),
        data=Markup(json_in_script(page_facts(facts))),
        vega=Markup(packed_vega()),
    )


def json_in_script(value: Any) -> str:
    """Write a value as JSON for a `<script>` element, which no text in it can end.

    A number that is not finite is null.
    """
    text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
