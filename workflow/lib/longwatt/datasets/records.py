"""The one schema of records, and reading and writing them."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from longwatt.datasets import visibility
from longwatt.datasets.temporary import stored_in
from longwatt.datasets.text_digests import Digests
from longwatt.datasets.visibility import Scoring
from longwatt.files import sha256, whole_file
from longwatt.provenance.source_files import FileFacts, SourceChanged, recorded_facts
from longwatt.provenance.stamps import write_json
from longwatt.tasks import CLASSIFICATION

SPLITS = ("train", "validation", "test")


def object_of(required: Collection[str], **properties: Any) -> dict[str, Any]:
    """Make the JSON schema of an object with exactly these properties."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }


def list_of(items: Mapping[str, Any]) -> dict[str, Any]:
    """Make the JSON schema of a list with one or more distinct items."""
    return {"type": "array", "minItems": 1, "uniqueItems": True, "items": items}


@dataclass(frozen=True)
class Record:
    """One example.

    Attributes:
        id: unique within its split.
        input: the whole text; for a query-based task the query, a blank line, the document.
        references: acceptable outputs, at least one.
        evidence: character ends (exclusive) in `input` of each reference word that only the text
            can tell; empty if unknown. A cut before an end hides that word.
        document_start: the character of `input` where the document begins, after a query.
        lead: the document's first words, as many as a mean training reference has; `download` sets
            it.
        second: the second text of a pair to classify, empty without one.
    """

    id: str
    input: str
    references: tuple[str, ...]
    evidence: tuple[int, ...] = ()
    document_start: int = 0
    lead: str = ""
    second: str = ""


@dataclass(frozen=True)
class SourceData:
    """Records by split that a source yields, and facts that the study may rest on.

    Attributes:
        splits: records by split name; records from files lie on disk
            (`longwatt.datasets.reading.stored`).
        licence: of the texts.
        origin: where the texts come from, with a version.
        chance_per_hidden_word: the share of hidden reference words that the best guess gets right;
            None if the source cannot know it.
        notes: what a user should know about the records.
    """

    splits: Mapping[str, Collection[Record]]
    licence: str
    origin: str
    chance_per_hidden_word: float | None = None
    notes: list[str] = field(default_factory=list)


class DatasetError(ValueError):
    """Records that cannot be used, named by dataset, split and record."""


def download(
    settings: Mapping[str, Any],
    folder: Path,
    provenance: Mapping[str, Any],
    scored: Collection[Scoring] = (),
) -> None:
    """Read a source and write `records.jsonl` and `dataset.json` (statistics, provenance).

    Args:
        settings: `source`, its `options`, and for records to classify `task`.
        folder: where to write.
        provenance: the artefact's stamp.
        scored: how the study scores these records.

    Raises:
        DatasetError: a split is empty, an id repeats, a record lacks text, or the metric does not
            see the references. For classification also: a record without exactly one label, a label
            that the training split lacks, or a split of one class.
    """
    data, sources = _read(settings, folder)
    _check(data, settings["source"])
    labels = _labels(data, settings["source"]) if settings.get("task") == CLASSIFICATION else {}
    seen = {} if labels else _visibility(data, scored)
    leading = data.splits.get("train") or next(iter(data.splits.values()))
    texts = (text for record in leading for text in record.references)
    lead_words = round(statistics.fmean(len(text.split()) for text in texts))
    statistics_of = _write_records(data, folder / "records.jsonl", lead_words)
    said = visibility.visibility_notes(seen, scored)
    for note in said:  # a log is read before a file of facts
        print(f"Note: {note}", flush=True)
    facts = {
        "licence": data.licence,
        "origin": data.origin,
        "chance_per_hidden_word": data.chance_per_hidden_word,
        "notes": [*data.notes, *said],
        "sha256": {"records.jsonl": sha256(folder / "records.jsonl")},
        "sources": sources,
        **({"labels": sorted(labels["train"])} if labels else {"visibility": seen}),
        "lead_words": lead_words,
        "splits": {
            split: counted.facts() | ({"labels": labels[split]} if labels else {})
            for split, counted in statistics_of.items()
        },
        "provenance": provenance,
    }
    write_json(folder / "dataset.json", facts)


def _write_records(data: SourceData, path: Path, lead_words: int) -> dict[str, _Statistics]:
    """Write every record with its first words, and return the statistics of each split."""
    found = {split: _Statistics() for split in data.splits}
    with whole_file(path) as stream:
        for split, records in data.splits.items():
            for record in records:
                found[split].add(record)
                row = {"split": split, **asdict(record), "lead": _lead(record, lead_words)}
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    return found


def _read(settings: Mapping[str, Any], folder: Path) -> tuple[SourceData, list[FileFacts]]:
    source = import_module(f"longwatt.datasets.{settings['source']}")
    files = files_read(source, settings["options"])
    # The source itself says which files are missing.
    there = {name: path for name, path in files.items() if path.is_file()}
    try:
        with stored_in(folder), recorded_facts(there) as sources:
            data: SourceData = source.read(settings["options"])
    except SourceChanged as error:
        raise DatasetError(str(error)) from None
    return data, sources


def files_read(source: Any, options: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files of this machine that a source's module reads, by name."""
    if hasattr(source, "local_files"):
        return dict(source.local_files(options))
    files = source.files(options) if hasattr(source, "files") else ()
    return {path: Path(path) for path in files}


def read_records(path: Path) -> Iterator[tuple[str, Record]]:
    """Yield (split, record) from a `records.jsonl`, split by split."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            lists = {key: tuple(value) for key, value in row.items() if isinstance(value, list)}
            yield row.pop("split"), Record(**row | lists)


def _lead(record: Record, words: int) -> str:
    # Splitting a whole book for its first words would be slow; words have a few dozen characters.
    start = record.input[record.document_start : record.document_start + 100 * (words + 1)]
    return " ".join(start.split()[:words])


def _check(data: SourceData, source: str) -> None:
    for split, records in data.splits.items():
        where = f"dataset source {source}, split {split!r}"
        if not records:
            raise DatasetError(f"dataset source {source}: the split {split!r} has no records")
        ids = Digests()
        for record in records:
            ids.add(record.id)
            if not record.input.strip() or not record.references or not all(record.references):
                raise DatasetError(f"{where}, id {record.id!r}: no text")
        if ids.later():
            raise DatasetError(f"{where}: ids repeat")


def _visibility(data: SourceData, scored: Collection[Scoring]) -> dict[str, dict[str, Any]]:
    found = {
        split: visibility.count_unseen((record.id, record.references) for record in records)
        for split, records in data.splits.items()
    }
    try:
        visibility.refuse_unseen(found, scored)
    except visibility.UnseenReferences as error:
        raise DatasetError(str(error)) from None
    return found


def _labels(data: SourceData, source: str) -> dict[str, dict[str, int]]:
    """Count the records of each split by label, in the order of the labels' names."""
    where = f"dataset source {source}"
    if "train" not in data.splits:
        problem = "classification needs a training split; its labels are the classes"
        raise DatasetError(f"{where}: {problem}")
    counts: dict[str, dict[str, int]] = {}
    for split, records in data.splits.items():
        labels = Counter(_only_label(record, f"{where}, split {split!r}") for record in records)
        counts[split] = dict(sorted(labels.items()))
    for split, found in counts.items():
        if len(found) < 2:
            (label,) = found
            problem = f"every label is {label!r}; a split needs two classes or more"
            raise DatasetError(f"{where}, split {split!r}: {problem}")
        unseen = {label: count for label, count in found.items() if label not in counts["train"]}
        if unseen:
            first = next(r.id for r in data.splits[split] if r.references[0] in unseen)
            listed = ", ".join(f"{label!r} ({count})" for label, count in unseen.items())
            raise DatasetError(
                f"{where}, split {split!r}: the training split never has {listed}; first at id "
                f"{first!r}; it has {', '.join(map(repr, counts['train']))}"
            )
    return counts


def _only_label(record: Record, where: str) -> str:
    if len(record.references) != 1:
        problem = f"needs one label, but there are {', '.join(map(repr, record.references))}"
        raise DatasetError(f"{where}, id {record.id!r}: classification {problem}")
    return record.references[0]


class _Statistics:
    """Statistics of one split, in which a row is an input with one reference.

    SCROLLS counts so too.
    """

    def __init__(self) -> None:
        self.examples = self.rows = self.words_in = self.words_out = 0
        self.most_in = self.most_out = 0

    def add(self, record: Record) -> None:
        words_in = len(record.input.split()) + len(record.second.split())
        words_out = [len(text.split()) for text in record.references]
        self.examples += 1
        self.rows += len(words_out)
        self.words_in += words_in * len(words_out)
        self.words_out += sum(words_out)
        self.most_in, self.most_out = max(self.most_in, words_in), max(self.most_out, *words_out)

    def facts(self) -> dict[str, float | int]:
        return {
            "examples": self.examples,
            "rows": self.rows,
            "words_in_mean": round(self.words_in / self.rows, 2),
            "words_in_max": self.most_in,
            "words_out_mean": round(self.words_out / self.rows, 2),
            "words_out_max": self.most_out,
        }
