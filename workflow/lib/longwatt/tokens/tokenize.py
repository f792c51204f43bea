"""Tokenize whole inputs once, and cut stored ids to a cell's length."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from longwatt.datasets.records import Record, read_records
from longwatt.files import read_object
from longwatt.provenance.artefacts import check_beside, digests, read_artefact
from longwatt.provenance.stamps import write_json
from longwatt.tokens import special_tokens
from longwatt.tokens.round_trip import RoundTrip, round_trip_notes
from longwatt.tokens.special_tokens import Ids, SpecialTokens, Tokenizer, TokenizerError, decode
from longwatt.tokens.stored_rows import read_splits

# Snakemake's file in a folder that a rule declares; its time counts as the folder's.
SNAKEMAKE_TIMESTAMP = ".snakemake_timestamp"
BATCH = 64  # records at once: enough for the fast tokenizer's threads, little of a split's text


def tokenize_dataset(
    records: Path, tokenizer_folder: Path, tokens: Path, report: Path, provenance: Mapping[str, Any]
) -> None:
    """Tokenize whole inputs and references of every split once.

    Writes to `tokens` a `datasets.DatasetDict` with the columns id, input_ids, second_ids (of a
    pair's second text, empty without one), input_tokens (number of both), query (text, empty
    without one), document_start_tokens (how many input ids are the query's), labels (one list of
    ids per reference), references (texts), lead (text) and evidence_ends (by evidence word, how
    many input ids must be kept for it to be whole). No ids include special tokens.
    """
    start = time.perf_counter()
    check_records(records)
    partial = tokens.with_name(".tokens.part")
    facts = _tokenize(records, tokenizer_folder, partial)
    for note in facts["notes"]:
        print(f"Note: {note}", flush=True)
    shutil.rmtree(tokens, ignore_errors=True)
    partial.replace(tokens)
    seconds = round(time.perf_counter() - start, 2)
    write_json(report, {**facts, "seconds": seconds, "provenance": provenance})


def check_records(records: Path) -> None:
    """Refuse records (`artefacts.Damaged`) unlike those of the dataset.json beside them."""
    check_beside(records.with_name("dataset.json"), records, shared=True)


def repair_tokens(paths: Mapping[str, str]) -> None:
    """Make stored tokens again if they differ from what their report describes.

    A bad disk or a stray hand may have changed them. Each file is replaced whole and holds what it
    held, so nothing made from them is out of date.

    Args:
        paths: tokens, tokenized (their report), dataset (beside the records), tokenizer.

    Raises:
        TokenizerError: they cannot be made as they were.
        longwatt.provenance.artefacts.Damaged: the report, the records or the tokenizer are damaged
            themselves.
    """
    made_by = Path(paths["tokenizer"]).with_name("provenance.json")
    if made_by.exists():
        names = read_artefact(made_by, shared=True).get("sha256", {})
        check_beside(made_by, *map(made_by.with_name, names), shared=True)
    tokens, report = Path(paths["tokens"]), Path(paths["tokenized"])
    if _is_sound(tokens, report):
        return
    with tokens.with_name(".repair.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another cell of this dataset may be at it
        if not _is_sound(tokens, report):
            print(f"{tokens} is damaged: it is made again", flush=True)
            _make_again(paths, tokens, report)


def _is_sound(tokens: Path, report: Path) -> bool:
    facts = read_artefact(report, shared=True)
    if digests(tokens, tokens.rglob("*.arrow")) != facts.get("sha256"):
        return False
    try:
        return set(read_splits(tokens)) == set(facts["input_tokens"])
    except Exception:  # whatever a damaged file makes of the library
        return False


def _make_again(paths: Mapping[str, str], tokens: Path, report: Path) -> None:
    partial = tokens.with_name(".tokens.part")
    records = Path(paths["dataset"]).with_name("records.jsonl")
    check_records(records)
    facts = _tokenize(records, Path(paths["tokenizer"]).parent, partial)
    if facts["sha256"] != read_object(report).get("sha256"):
        raise TokenizerError(
            f"{tokens} is damaged, and what is made again from {records} differs from what was "
            f"there; remove {tokens.parent} and run again, which makes all cells of this dataset "
            "again"
        )
    made = report.stat()
    for source in (path for path in partial.rglob("*") if path.is_file()):
        target = tokens / source.relative_to(partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    stamp = tokens / SNAKEMAKE_TIMESTAMP
    stamp.touch()
    os.utime(stamp, ns=(made.st_atime_ns, made.st_mtime_ns))
    shutil.rmtree(partial)


def _tokenize(records: Path, tokenizer_folder: Path, folder: Path) -> dict[str, Any]:
    """Write all splits' tokens into an empty folder and return the facts of their report."""
    from datasets import DatasetDict, disable_progress_bars

    disable_progress_bars()
    tokenizer = special_tokens.load_tokenizer(tokenizer_folder)
    tokenized, texts = {}, {}
    for split, pairs in groupby(read_records(records), key=itemgetter(0)):
        counted = RoundTrip(tokenizer.unk_token_id)
        tokenized[split] = _tokenize_split(tokenizer, (record for _, record in pairs), counted)
        texts[split] = counted.facts()
    lengths = {split: _lengths(rows["input_tokens"]) for split, rows in tokenized.items()}
    shutil.rmtree(folder, ignore_errors=True)
    DatasetDict(tokenized).save_to_disk(str(folder))
    return {
        "vocabulary": len(tokenizer),
        "special_tokens": SpecialTokens.of(tokenizer).count,
        "input_tokens": lengths,
        "round_trip": texts,
        "notes": [
            note for split, found in texts.items() for note in round_trip_notes(split, found)
        ],
        "bytes": sum(path.stat().st_size for path in folder.rglob("*.arrow")),
        "sha256": digests(folder, folder.rglob("*.arrow")),
    }


def _tokenize_split(tokenizer: Tokenizer, records: Iterator[Record], counted: RoundTrip) -> Any:
    """Tokenize one split to a `datasets.Dataset`, whose token ids take 4 bytes each."""
    from datasets import Dataset, Features, List, Value, concatenate_datasets

    number, text = Value("int32"), Value("string")
    ids = List(number)
    features = {
        "id": text,
        "input_ids": ids,
        "second_ids": ids,
        "input_tokens": number,
        "query": text,
        "document_start_tokens": number,
        "labels": List(ids),
        "references": List(text),
        "lead": text,
        "evidence_ends": ids,
    }
    parts = []
    while batch := list(islice(records, BATCH)):
        rows = _rows(tokenizer, batch)
        decoded = iter(decode(tokenizer, [ids for row in rows for ids in row["labels"]]))
        for row in rows:
            counted.add_input(row["input_ids"])
            for reference, label in zip(row["references"], row["labels"], strict=True):
                counted.add_reference(row["id"], reference, label, next(decoded))
        parts.append(Dataset.from_list(rows, features=Features(features)))
    return concatenate_datasets(parts)


def _rows(tokenizer: Tokenizer, records: Sequence[Record]) -> list[dict[str, Any]]:
    located = any(record.evidence for record in records)  # offsets take far more memory than ids
    encoded = tokenizer(
        [record.input for record in records],
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=located,
        verbose=False,
    )
    offsets = encoded["offset_mapping"] if located else [()] * len(records)
    texts = [record.second for record in records]
    seconds: list[list[int]] = [[]] * len(texts)
    if any(texts):
        seconds = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    starts = [_document_start(encoded, number, record) for number, record in enumerate(records)]
    columns = zip(records, encoded["input_ids"], seconds, starts, offsets, strict=True)
    return [
        {
            "id": record.id,
            "input_ids": ids,
            "second_ids": second,
            "input_tokens": len(ids) + len(second),
            "query": record.input[: record.document_start].strip(),
            "document_start_tokens": start,
            "labels": tokenizer(list(record.references), add_special_tokens=False)["input_ids"],
            "references": list(record.references),
            "lead": record.lead,
            "evidence_ends": _evidence_ends(record.evidence, places),
        }
        for record, ids, second, start, places in columns
    ]


def _document_start(encoded: Any, number: int, record: Record) -> int:
    """Return the number of a record's ids before its document.

    A token across the boundary holds white space, or an end of the query that says no more alone:
    it counts as the document's.
    """
    if not record.document_start:
        return 0
    places = range(record.document_start, len(record.input))
    found = (encoded.char_to_token(number, place) for place in places)
    # Tokenizers drop white space, whose characters then have no token.
    none = len(encoded["input_ids"][number])
    return next((int(token) for token in found if token is not None), none)


def _evidence_ends(evidence: Ids, offsets: Sequence[tuple[int, int]]) -> list[int]:
    stops = [stop for _, stop in offsets]
    kept = (next((i for i, end in enumerate(stops) if end >= c), len(stops)) for c in evidence)
    return [token + 1 for token in kept]


def _lengths(lengths: Ids) -> dict[str, float]:
    return {"mean": round(sum(lengths) / len(lengths), 1), "min": min(lengths), "max": max(lengths)}
