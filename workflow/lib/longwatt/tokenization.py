"""Tokenize whole inputs once, and cut stored ids to a cell's length."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from longwatt.artefacts import check_beside, read_artefact
from longwatt.datasets.records import Record, read_records
from longwatt.provenance import read_object, sha256, write_json
from longwatt.round_trip import RoundTrip, notes

# Snakemake's file in a folder that a rule declares; its time counts as the folder's.
SNAKEMAKE_TIMESTAMP = ".snakemake_timestamp"
BATCH = 64  # records at once: enough for the fast tokenizer's threads, little of a split's text
Tokenizer = Any  # transformers.PreTrainedTokenizerFast, which has no types
Ids = Sequence[int]
CutPair = tuple[list[int], int]  # ids, and where the second text's segment begins


class TokenizerError(ValueError):
    """A tokenizer that cannot be made or used, named by its folder or file."""


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """Load the fast tokenizer of a folder, never from a hub."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, use_fast=True)


def decode(tokenizer: Tokenizer, rows: Sequence[Ids]) -> list[str]:
    """Decode token ids to texts as SCROLLS scores them."""
    how = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    texts = tokenizer.batch_decode(rows, **how)
    # SCROLLS' scores include the clean-up of spaces, which transformers 5 leaves out for BPE.
    return [tokenizer.clean_up_tokenization(text).strip() for text in texts]


@dataclass(frozen=True)
class PairTokens:
    """The special tokens that a tokenizer puts around two texts.

    Attributes:
        prefix: before the first text.
        middle: between them.
        suffix: after the second text.
        first_segment: number of `middle` tokens in the first text's segment (token type 0); all of
            them if the tokenizer knows no segments.
    """

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    first_segment: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> PairTokens | None:
        """Read them off an encoded pair (None if its texts do not follow each other)."""
        if not getattr(tokenizer, "is_fast", False):  # others do not assign tokens to texts
            return None
        encoded = tokenizer("a", "a", return_token_type_ids=True)
        ids, texts = encoded["input_ids"], encoded.sequence_ids()
        if not {0, 1} <= set(texts) or texts.index(1) < texts.index(0):
            return None
        start, end = texts.index(0), len(texts) - texts[::-1].index(0)
        second, last = texts.index(1), len(texts) - texts[::-1].index(1)
        first_segment = encoded["token_type_ids"][end:second].count(0)
        return cls(tuple(ids[:start]), tuple(ids[end:second]), tuple(ids[last:]), first_segment)

    @property
    def count(self) -> int:
        """Number of tokens that a cut must leave room for."""
        return len(self.prefix) + len(self.middle) + len(self.suffix)

    def cut(self, first: Ids, second: Ids, length: int) -> CutPair:
        """Cut and wrap two texts as `SpecialTokens.cut_pair` does."""
        room = length - self.count
        if room < 2:
            problem = f"no room for two texts beside {self.count} special tokens"
            raise TokenizerError(f"length {length} leaves {problem}")
        # The longer text gives way, down to the other's length, then both alike.
        short, long = sorted((len(first), len(second)))
        if short + long > room:
            long = max(short, room - short)
        if short + long > room:
            short, long = room // 2, room - room // 2
        kept, other = (short, long) if len(first) <= len(second) else (long, short)
        head = [*self.prefix, *list(first)[:kept]]
        ids = [*head, *self.middle, *list(second)[:other], *self.suffix]
        return ids, len(head) + self.first_segment


@dataclass(frozen=True)
class SpecialTokens:
    """The special tokens that a tokenizer puts around a text, or around a pair."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    pair: PairTokens | None = None

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> SpecialTokens:
        """Read them off an encoded text, which holds for every tokenizer."""
        mask = tokenizer("a", return_special_tokens_mask=True)
        ids, special = mask["input_ids"], mask["special_tokens_mask"]
        first = special.index(0)
        last = len(special) - special[::-1].index(0)
        return cls(tuple(ids[:first]), tuple(ids[last:]), PairTokens.of(tokenizer))

    @property
    def count(self) -> int:
        """Number of tokens that a cut must leave room for."""
        return len(self.prefix) + len(self.suffix)

    def cut(self, ids: Ids, length: int) -> list[int]:
        """Cut and wrap ids of a text without special tokens to at most `length` tokens.

        The result equals the tokenizer's own `truncation=True, max_length=length`.
        """
        room = length - self.count
        if room < 1:
            problem = f"no room beside {self.count} special tokens"
            raise TokenizerError(f"length {length} leaves {problem}")
        return [*self.prefix, *list(ids)[:room], *self.suffix]

    def cut_pair(self, first: Ids, second: Ids, length: int) -> CutPair:
        """Cut and wrap ids of two texts without special tokens to at most `length` tokens.

        The result equals the tokenizer's own `truncation=True, max_length=length` of the pair.

        Returns:
            The ids, and the position at which the second text's segment (token type 1) begins, or
            the second text itself if the tokenizer knows no segments.

        Raises:
            TokenizerError: there is no room for a token of each, or no support for pairs.
        """
        if self.pair is None:
            problem = "does not put two texts one after the other, but the dataset has pairs"
            raise TokenizerError(f"this tokenizer {problem}")
        return self.pair.cut(first, second, length)


def tokenize_dataset(
    records: Path, tokenizer_folder: Path, tokens: Path, report: Path, provenance: Mapping[str, Any]
) -> None:
    """Tokenize whole inputs and references of every split once.

    Writes to `tokens` a `datasets.DatasetDict` with the columns id, input_ids, second_ids (of a
    pair's second text, empty without one), input_tokens (number of both), labels (one list of ids
    per reference), references (texts), lead (text) and evidence_ends (by evidence word, how many
    input ids must be kept for it to be whole). No ids include special tokens.
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
        longwatt.artefacts.Damaged: the report, the records or the tokenizer are damaged themselves.
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
    from datasets import load_from_disk

    facts = read_artefact(report, shared=True)
    if _digests(tokens) != facts.get("sha256"):
        return False
    try:
        return set(load_from_disk(str(tokens))) == set(facts["input_tokens"])
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
    tokenizer = load_tokenizer(tokenizer_folder)
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
        "notes": [note for split, found in texts.items() for note in notes(split, found)],
        "bytes": sum(path.stat().st_size for path in folder.rglob("*.arrow")),
        "sha256": _digests(folder),
    }


def _digests(tokens: Path) -> dict[str, str]:
    return {str(path.relative_to(tokens)): sha256(path) for path in sorted(tokens.rglob("*.arrow"))}


def load_split(tokens: Path, split: str, max_examples: int | None) -> Any:
    """Load the rows of one split, at most `max_examples`, spread evenly to favour no part."""
    from datasets import load_from_disk

    rows = load_from_disk(str(tokens))[split]
    if max_examples is None or max_examples >= len(rows):
        return rows
    return rows.select(evenly_spread(len(rows), max_examples))


def evenly_spread(total: int, wanted: int) -> list[int]:
    """Choose `wanted` evenly spread positions of 0 to total - 1."""
    return [(2 * i + 1) * total // (2 * wanted) for i in range(wanted)]


def visible_evidence(ends: Ids, length: int, special_tokens: int) -> int:
    """Count the evidence words that survive a cut to `length` tokens."""
    return sum(end <= length - special_tokens for end in ends)


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
    columns = zip(records, encoded["input_ids"], seconds, offsets, strict=True)
    return [
        {
            "id": record.id,
            "input_ids": ids,
            "second_ids": second,
            "input_tokens": len(ids) + len(second),
            "labels": tokenizer(list(record.references), add_special_tokens=False)["input_ids"],
            "references": list(record.references),
            "lead": record.lead,
            "evidence_ends": _evidence_ends(record.evidence, places),
        }
        for record, ids, second, places in columns
    ]


def _evidence_ends(evidence: Ids, offsets: Sequence[tuple[int, int]]) -> list[int]:
    stops = [stop for _, stop in offsets]
    kept = (next((i for i, end in enumerate(stops) if end >= c), len(stops)) for c in evidence)
    return [token + 1 for token in kept]


def _lengths(lengths: Ids) -> dict[str, float]:
    return {"mean": round(sum(lengths) / len(lengths), 1), "min": min(lengths), "max": max(lengths)}
