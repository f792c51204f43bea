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

from longwatt.answer.facts import study_facts
from longwatt.answer.page_facts import claim_rows, columns, energy_notes, page_facts, point_rows
from longwatt.answer.vega import packed_vega
from longwatt.files import sha256, whole_file
from longwatt.layout.pages import HTML
from longwatt.provenance.stamps import write_json

TEMPLATE, STYLE = "page.html", "page.css"
PAGE_SCRIPTS = (
    "page_choice.js",
    "page_words.js",
    "page_plot.js",
    "page_table.js",
    "page_controls.js",
)
DIGITS_SHOWN = 12  # of a digest on the page
HERE = Path(__file__).parent


def write_answer(
    results: Path,
    settings: Mapping[str, Any],
    target: Path,
    provenance: Mapping[str, Any],
    summary: Path | None = None,
) -> None:
    """Answer a study, and write the answer as a page and as JSON.

    Args:
        results: results/{study}.
        settings: as `longwatt.study.stages.Stages.answer`.
        target: answer.json; the page lies beside it.
        provenance: the stamp of `target`.
        summary: a table of some of the results; None for summary.csv in them.
    """
    facts = study_facts(results, settings, summary)
    page = target.with_suffix(".html")
    write_answer_page({**facts, "provenance": shown_provenance(provenance)}, page)
    digests = {
        "summary_sha256": sha256(summary or results / "summary.csv"),
        "sha256": {page.name: sha256(page)},
    }
    write_json(target, {**facts, **digests, "provenance": provenance})


def shown_provenance(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Choose what the page says of its making: the version, and digests in short."""
    named = {"longwatt": "version", "code_digest": "code", "settings_digest": "settings"}
    found = {word: str(provenance[key]) for key, word in named.items() if key in provenance}
    return {word: text[:DIGITS_SHOWN] for word, text in found.items()}


def write_answer_page(facts: Mapping[str, Any], path: Path) -> None:
    """Write the page of an answer, whole or not at all.

    Args:
        facts: what answer.json holds.
        path: the page, an .html.
    """
    with whole_file(path) as stream:
        stream.write(page_text(facts))


def page_text(facts: Mapping[str, Any]) -> str:
    """Return the page of an answer as HTML."""
    scripts = "\n".join((HERE / name).read_text(encoding="utf-8") for name in PAGE_SCRIPTS)
    return HTML.from_string((HERE / TEMPLATE).read_text(encoding="utf-8")).render(
        facts=facts,
        columns=columns(facts),
        rows=point_rows(facts),
        claims=claim_rows(facts),
        energy=energy_notes(facts),
        style=Markup((HERE / STYLE).read_text(encoding="utf-8")),
        scripts=Markup(scripts),
        data=Markup(json_in_script(page_facts(facts))),
        vega=Markup(packed_vega()),
    )


def json_in_script(value: Any) -> str:
    """Write a value as JSON for a `<script>`, which no text in it can end.

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
