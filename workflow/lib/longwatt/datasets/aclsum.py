"""Full ACL papers with human summaries of three aspects, from the PyPI package `aclsum`.

Takeshita et al. 2024, "ACLSum: A New Dataset for Aspect-based Summarization of Scientific
Publications": 250 papers (100/50/100). As a query-based task, the aspect is the query and the S2ORC
parse of the full paper is the document. Nothing is fetched at run time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from longwatt.datasets.records import Record, SourceData, list_of, object_of

ASPECTS = ("challenge", "approach", "outcome")
QUERIES = {
    "challenge": "Which challenge does the paper address?",
    "approach": "Which approach does the paper take?",
    "outcome": "What is the outcome of the paper?",
}
LICENCE = "MIT (package); papers before 2016 CC BY-NC-SA, later ones CC BY"
SPLIT_NAMES = {"train": "train", "validation": "val", "test": "test"}

OPTIONS_SCHEMA = object_of([], aspects=list_of({"enum": list(ASPECTS)}))


def read(options: Mapping[str, Any]) -> SourceData:
    """Read records `<paper>/<aspect>`: query, blank line, title and text, with one reference."""
    aspects = options.get("aspects", list(ASPECTS))
    return SourceData(
        splits={split: list(_records(name, aspects)) for split, name in SPLIT_NAMES.items()},
        licence=LICENCE,
        origin=f"PyPI aclsum {version('aclsum')}",
    )


def _records(split: str, aspects: list[str]) -> Iterator[Record]:
    from aclsum import ACLSum

    for document in ACLSum(split):
        text = full_text(document.title, document.get_fulltext_parse())
        for aspect in aspects:
            query = f"{QUERIES[aspect]}\n\n"
            references = (document.summaries[aspect],)
            id_ = f"{document.id}/{aspect}"
            yield Record(id_, query + text, references, document_start=len(query))


def full_text(title: str, parse: Mapping[str, Any]) -> str:
    """Join title, abstract and body of an S2ORC parse, with a heading before each section."""
    blocks = [title, *(p["text"] for p in parse["pdf_parse"]["abstract"])]
    heading = None
    for paragraph in parse["pdf_parse"]["body_text"]:
        if paragraph["section"] and paragraph["section"] != heading:
            heading = paragraph["section"]
            blocks.append(heading)
        blocks.append(paragraph["text"])
    return "\n".join(block.strip() for block in blocks if block.strip())
