"""Sentences of ACL papers classified by aspect, from the PyPI package `aclsum`.

A small set of real classification. Annotators of Takeshita et al. 2024 highlighted the sentences
that state a paper's challenge, approach and outcome, in abstract, introduction and conclusion of
250 papers. The class of a sentence is its aspect, or `none`. The few sentences with several aspects
have no single class: they are left out and counted. Nothing is fetched at run time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from longwatt.datasets import aclsum
from longwatt.datasets.overlap import shared_texts
from longwatt.datasets.records import Record, SourceData

SECTIONS = ("abstract", "introduction", "conclusion")
NO_ASPECT = "none"  # the class of sentences that tell none of the aspects

OPTIONS_SCHEMA = aclsum.OPTIONS_SCHEMA


def read(options: Mapping[str, Any]) -> SourceData:
    """Read records `<paper>/<section>/<number>`: a sentence and its class.

    Args:
        options: `aspects` that are classes of their own (default: all three). Sentences of the
            other aspects count as `none`.
    """
    aspects = options.get("aspects", list(aclsum.ASPECTS))
    found = {split: _split(name, aspects) for split, name in aclsum.SPLIT_NAMES.items()}
    splits = {split: records for split, (records, _) in found.items()}
    dropped = [
        f"{n} of {n + len(kept)} sentences of {split} have several aspects: left out"
        for split, (kept, n) in found.items()
        if n
    ]
    return SourceData(
        splits=splits,
        licence=aclsum.LICENCE,
        origin=f"PyPI aclsum {version('aclsum')}, sentences with highlights",
        notes=[*dropped, *shared_texts(splits)],
    )


def _split(name: str, aspects: Sequence[str]) -> tuple[list[Record], int]:
    from aclsum import ACLSum

    records, several = [], 0
    for document in ACLSum(name):
        for section in SECTIONS:
            marks = [document.get_all_highlights(aspect, [section]) for aspect in aspects]
            for number, sentence in enumerate(document.get_all_sentences([section])):
                marked = [aspect for aspect, of in zip(aspects, marks, strict=True) if of[number]]
                if len(marked) > 1:
                    several += 1
                    continue
                id_ = f"{document.id}/{section}/{number}"
                records.append(Record(id_, sentence, (marked[0] if marked else NO_ASPECT,)))
    return records, several
