"""The one schema of records, and reading and writing them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from longwatt.provenance import write_json

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Record:
    """One example.

    Attributes:
        id: unique within its split.
        input: the whole text; for a query-based task the query, a blank line, the document.
        references: acceptable outputs, at least one.
        evidence: character ends (exclusive) in `input` of each reference word that can only be known from
            the text, empty when unknown; a cut before an end hides that word.
    """

    id: str
    input: str
    references: tuple[str, ...]
    evidence: tuple[int, ...] = ()


@dataclass(frozen=True)
class SourceData:
    """What a source yields: records by split, and facts that the study may rest on.

    Attributes:
        splits: records by split name.
        chance_per_hidden_word: the share of hidden reference words that the best guess gets right, None
            when the source cannot know it.
        licence: of the texts.
        origin: where the texts come from, with a version.
    """

    splits: Mapping[str, list[Record]]
    licence: str
    origin: str
    chance_per_hidden_word: float | None = None
    notes: list[str] = field(default_factory=list)


class DatasetError(ValueError):
    """Records that cannot be used; names the dataset, split and record."""


def download(settings: Mapping[str, Any], folder: Path, provenance: Mapping[str, Any]) -> None:
    """Read a source and write `records.jsonl` and `dataset.json` (statistics, provenance) to `folder`.

    Raises:
        DatasetError: a split is missing or empty, an id repeats, or a record lacks text.
    """
    data: SourceData = import_module(f"longwatt.datasets.{settings['source']}").read(settings["options"])
    _check(data, settings["source"])
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ".records.jsonl.part"
    with partial.open("w", encoding="utf-8") as stream:
        for split, records in data.splits.items():
            for record in records:
                row = {"split": split, **asdict(record)}
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    partial.replace(folder / "records.jsonl")
    facts = {key: getattr(data, key) for key in ("licence", "origin", "chance_per_hidden_word", "notes")}
    statistics_ = {split: _statistics(records) for split, records in data.splits.items()}
    write_json(folder / "dataset.json", {**facts, "splits": statistics_, "provenance": provenance})


def read_records(path: Path) -> Iterator[tuple[str, Record]]:
    """Yield (split, record) from a `records.jsonl`."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            yield (
                row["split"],
                Record(row["id"], row["input"], tuple(row["references"]), tuple(row["evidence"])),
            )


def _check(data: SourceData, source: str) -> None:
    for split in SPLITS:
        records = data.splits.get(split, [])
        if not records:
            raise DatasetError(f"dataset source {source}: the split {split!r} has no records")
        if len({record.id for record in records}) != len(records):
            raise DatasetError(f"dataset source {source}, split {split!r}: ids repeat")
        for record in records:
            if not record.input.strip() or not record.references or not all(record.references):
                raise DatasetError(f"dataset source {source}, split {split!r}, id {record.id!r}: no text")


def _statistics(records: Iterable[Record]) -> dict[str, float | int]:
    records = list(records)
    words_in = [len(record.input.split()) for record in records]
    words_out = [len(text.split()) for record in records for text in record.references]
    return {
        "examples": len(records),
        "words_in_mean": round(statistics.fmean(words_in), 1),
        "words_in_max": max(words_in),
        "words_out_mean": round(statistics.fmean(words_out), 1),
        "words_out_max": max(words_out),
    }
