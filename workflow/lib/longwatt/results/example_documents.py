"""Find which scored examples share a document, so that intervals draw documents.

A document is an input without its query. Several queries about one meeting share it, and so do rows
that repeat an input.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from longwatt.datasets.shared_documents import documents_of_source
from longwatt.tokens.stored_rows import StoredRows

DatasetFacts = Mapping[str, Any]


def shared_documents(rows: StoredRows, dataset: DatasetFacts) -> dict[str, str]:
    """Name the document of each example, or return nothing where every example has its own.

    A document has the name that its source knows, or the id of the first example that has it. Names
    are the same whatever tokenizer made the rows.

    Args:
        rows: of a split.
        dataset: what dataset.json holds.
    """
    settings = (dataset.get("provenance") or {}).get("settings") or {}
    ids = list(rows["id"])
    found = documents_of_source(str(settings.get("source")), ids) or _by_text(rows, ids)
    named = {id_: found.get(id_, id_) for id_ in ids}
    return named if len(set(named.values())) < len(ids) else {}


def _by_text(rows: StoredRows, ids: list[str]) -> dict[str, str]:
    """Name each example's document by the first example with the same token ids after its query."""
    starts = rows["document_start_tokens"]
    sizes = [size - start for size, start in zip(rows.sizes("input_ids"), starts, strict=True)]
    alike = Counter(sizes)
    first: dict[tuple[int, bytes], str] = {}
    found = {}
    for row, (id_, size, start) in enumerate(zip(ids, sizes, starts, strict=True)):
        if size > 0 and alike[size] > 1:  # others cannot be equal, and are not read
            text = array("i", rows.ids("input_ids", row)[start:]).tobytes()
            found[id_] = first.setdefault((size, sha256(text).digest()), id_)
    return found
