"""Read a model's shape from the head of its GGUF file.

It takes the standard library alone. A study's lengths are checked, and its costs foreseen, before
the file is converted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any

CHANGES_NO_RESULT = "A conversion reads the file anew; this tells its shape before that."

MAGIC = b"GGUF"
# Formats of the values by their numbers in the file; those of texts and lists stand apart.
SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
STRING, ARRAY = 8, 9
TOKEN_LIST = "tokenizer.ggml.tokens"
# Keys after the architecture's name, and what transformers calls them.
CONFIG_NAMES = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "vocab_size": "vocab_size",
}


def config_of(file: Path) -> dict[str, Any]:
    """Return what a GGUF file says of its model, by the names of a config.json.

    Nothing is returned of a file that cannot be read: its conversion says why.
    """
    try:
        return dict(_config(file, file.stat().st_mtime_ns))
    except (OSError, ValueError, KeyError, struct.error):
        return {}
    except (MemoryError, OverflowError, RecursionError):  # sizes and depths that no file has
        return {}


@cache  # it is asked for at every start, and lists of tokens are long
def _config(file: Path, time: int) -> dict[str, Any]:
    with file.open("rb") as stream:
        said = dict(_entries(stream))
    kind = said["general.architecture"]
    found = {new: said.get(f"{kind}.{old}") for old, new in CONFIG_NAMES.items()}
    found["vocab_size"] = found["vocab_size"] or len(said.get(TOKEN_LIST, ())) or None
    # A list has a value for each layer, and a config.json one for all.
    shape = {name: value for name, value in found.items() if isinstance(value, int)}
    return {"model_type": kind, "tie_word_embeddings": "output.weight" not in said, **shape}


def _entries(stream: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """Yield the named values of a file, of lists their indices, then its tensors' places."""
    if stream.read(4) != MAGIC:
        raise ValueError("no GGUF file")
    _version, tensors, entries = _unpack(stream, "IQQ")
    for _ in range(entries):
        name = _text(stream)
        yield name, _value(stream, *_unpack(stream, "I"))
    for _ in range(tensors):
        name = _text(stream)
        (dimensions,) = _unpack(stream, "I")
        yield name, _unpack(stream, f"{dimensions}QIQ")


def _value(stream: IO[bytes], kind: int) -> Any:
    if kind == STRING:
        return _text(stream)
    if kind != ARRAY:
        return _unpack(stream, SCALARS[kind])[0]
    of, length = _unpack(stream, "IQ")
    if of in SCALARS:
        stream.seek(length * struct.calcsize(SCALARS[of]), 1)
    else:
        for _ in range(length):
            _value(stream, of)
    return range(length)


def _text(stream: IO[bytes]) -> str:
    return stream.read(*_unpack(stream, "Q")).decode("utf-8", "replace")


def _unpack(stream: IO[bytes], form: str) -> tuple[Any, ...]:
    form = f"<{form}"
    return struct.unpack(form, stream.read(struct.calcsize(form)))
