"""Needle with a share of its answers near the beginning, as in news.

The documents are those of `longwatt.datasets.needle`. In a share of them the needle moves to a
random place in the first words.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from longwatt.datasets import needle
from longwatt.datasets.needle import MARKER_WORDS, QUERY
from longwatt.datasets.records import Record, SourceData

OWN_OPTIONS = {
    "lead_share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "lead_words": {"type": "integer", "minimum": 16},
}
OPTIONS_SCHEMA = {
    **needle.OPTIONS_SCHEMA,
    "required": [*needle.OPTIONS_SCHEMA["required"], *OWN_OPTIONS],
    "properties": {**needle.OPTIONS_SCHEMA["properties"], **OWN_OPTIONS},
}


def read(options: Mapping[str, Any]) -> SourceData:
    """Generate records as `longwatt.datasets.needle.read`, and move needles to the beginning.

    Args:
        options: those of needle; lead_share, the share of documents whose needle moves;
            lead_words, the words of the beginning that hold it.
    """
    found = needle.read({key: value for key, value in options.items() if key not in OWN_OPTIONS})
    source = random.Random(options.get("seed", 0))
    lead = min(options["lead_words"], options["words_per_document"])
    splits = {
        split: [
            _moved(record, source, lead) if source.random() < options["lead_share"] else record
            for record in records
        ]
        for split, records in found.splits.items()
    }
    return replace(found, splits=splits, origin="longwatt.datasets.leading_needle")


def _moved(record: Record, source: random.Random, lead: int) -> Record:
    """Move a record's needle to a random place in the first `lead` words."""
    words = record.input[record.document_start :].split(" ")
    marks, size = len(MARKER_WORDS), len(MARKER_WORDS) + len(record.evidence) + 1
    starts = range(len(words) - marks + 1)
    start = next(n for n in starts if tuple(words[n : n + marks]) == MARKER_WORDS)
    moved, rest = words[start : start + size], words[:start] + words[start + size :]
    place = source.randint(0, lead - size)
    head = f"{QUERY}\n\n" + " ".join([*rest[:place], *MARKER_WORDS])
    ends, position = [], len(head)
    for word in moved[marks:-1]:  # without the full stop
        position += 1 + len(word)
        ends.append(position)
    text = " ".join([head, *moved[marks:], *rest[place:]])
    return replace(record, input=text, evidence=tuple(ends))
