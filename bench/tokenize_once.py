"""Compare one tokenizing pass with one per cell, in time and on disk.

    python bench/tokenize_once.py records.jsonl TOKENIZER_FOLDER [--lengths 1024 2048] [--models 3]

`records.jsonl` and the tokenizer are those below resources/ of a study that has run. A pass per
cell tokenizes every whole input and keeps the first `length` tokens, as training scripts do that
truncate while they tokenize.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value, disable_progress_bars

from longwatt.datasets.records import Record, read_records
from longwatt.tokens.special_tokens import load_tokenizer
from longwatt.tokens.tokenize import tokenize_dataset

BATCH = 64


def once(records: Path, tokenizer: Path, folder: Path) -> dict[str, float]:
    """Return seconds and bytes of the project's own pass."""
    start = time.perf_counter()
    tokenize_dataset(records, tokenizer, folder / "tokens", folder / "tokenized.json", {})
    return {"seconds": time.perf_counter() - start, "bytes": size(folder / "tokens")}


def per_cell(records: list[Record], tokenizer: Any, length: int, folder: Path) -> dict[str, float]:
    """Return seconds and bytes of a pass that truncates to one length."""
    start = time.perf_counter()
    ids = List(Value("int32"))
    features = Features({"input_ids": ids, "labels": ids})
    rows = []
    for first in range(0, len(records), BATCH):
        batch = records[first : first + BATCH]
        cut = {"truncation": True, "max_length": length}
        inputs = tokenizer([r.input for r in batch], return_attention_mask=False, **cut)
        labels = tokenizer([r.references[0] for r in batch], return_attention_mask=False)
        pairs = zip(inputs["input_ids"], labels["input_ids"], strict=True)
        rows += [{"input_ids": i, "labels": t} for i, t in pairs]
    Dataset.from_list(rows, features=features).save_to_disk(str(folder))
    return {"seconds": time.perf_counter() - start, "bytes": size(folder)}


def size(folder: Path) -> int:
    """Return the bytes of the data files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*.arrow"))


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("records", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 3072, 4096])
    parser.add_argument("--models", type=int, default=3, help="models that share the tokenizer")
    given = parser.parse_args()
    disable_progress_bars()
    tokenizer = load_tokenizer(given.tokenizer)
    records = [record for _, record in read_records(given.records)]
    with tempfile.TemporaryDirectory() as name:
        shared = once(given.records, given.tokenizer, Path(name) / "once")
        passes = {n: per_cell(records, tokenizer, n, Path(name) / str(n)) for n in given.lengths}
    counts = {"rows": len(records), "cells": len(given.lengths) * given.models}
    total = {key: given.models * sum(p[key] for p in passes.values()) for key in shared}
    ratios = {f"{key}_ratio": round(total[key] / shared[key], 2) for key in total}
    found = {**counts, "once": shared, "a_pass_per_cell": total, **ratios}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
