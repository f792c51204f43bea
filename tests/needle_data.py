"""A small generated dataset, its tokenizer and its tokens, for tests that need real ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longwatt.datasets.records import download
from longwatt.tokens.tokenize import tokenize_dataset
from longwatt.tokens.tokenizers import make_tokenizer


def make_needle_data(path: Path, options: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> Path:
    """Needle into `path`, as `make_data`."""
    return make_data(path, {"source": "needle", "options": options}, tokenizer)


def make_data(path: Path, source: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> Path:
    """Into `path`: records.jsonl and dataset.json, bpe/, tokens/ and tokenized.json."""
    download(source, path, {})
    make_tokenizer({"kind": "byte_level_bpe", **tokenizer}, path / "records.jsonl", path / "bpe")
    tokenize_dataset(
        path / "records.jsonl", path / "bpe", path / "tokens", path / "tokenized.json", {}
    )
    return path
