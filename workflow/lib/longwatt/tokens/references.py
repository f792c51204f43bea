"""Reference texts for predictions: an example's best, as in SCROLLS, or each alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from longwatt.tokens.special_tokens import SpecialTokens, Tokenizer, decode

EACH = "each"  # every reference is an example of its own, as in the code of arXiv 2204.07288
Compared = tuple[str, tuple[str, ...]]  # an id and its references
Texts = dict[str, tuple[str, ...]]


def compared_id(id_: str, number: int, references: str) -> str:
    """Return a prediction's id: the example's, or with "each" that of its reference (from 0)."""
    return f"{id_}#{number}" if references == EACH else id_


def compared_examples(rows: Any, references: str) -> dict[str, str]:
    """Return the example of every prediction of a split's rows, by the prediction's id."""
    return {
        compared_id(id_, number, references): id_
        for id_, texts in zip(rows["id"], rows["references"], strict=True)
        for number in range(len(texts))
    }


def compared_texts(rows: Any, tokenizer: Tokenizer, comparison: Mapping[str, Any]) -> Texts:
    """Return the references of every prediction, by its id.

    Args:
        rows: of a split, as `longwatt.tokens.special_tokens.load_split` returns them.
        tokenizer: the one that made them; None will do for whole texts.
        comparison: as `longwatt.study.settings.COMPARISON_DEFAULTS`: `references` ("best" of an
            example's, or "each") and `max_reference_tokens` (special ones included; None for whole
            texts).
    """
    found = dict(_references(rows, tokenizer, comparison["max_reference_tokens"]))
    if comparison["references"] != EACH:
        return found
    return {
        compared_id(id_, number, EACH): (text,)
        for id_, references in found.items()
        for number, text in enumerate(references)
    }


def _references(rows: Any, tokenizer: Tokenizer, most_tokens: int | None) -> Iterator[Compared]:
    """Yield (example's id, its references), whole or decoded from their first tokens."""
    if most_tokens is None:
        yield from zip(rows["id"], map(tuple, rows["references"]), strict=True)
        return
    special = SpecialTokens.of(tokenizer)
    for id_, labels in zip(rows["id"], rows["labels"], strict=True):
        yield id_, tuple(decode(tokenizer, [special.cut(ids, most_tokens) for ids in labels]))
