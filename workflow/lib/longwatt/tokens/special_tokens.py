"""Tokenizers, and the special tokens around one text or two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longwatt.files import read_object
from longwatt.tokens.stored_rows import StoredRows, read_split

Tokenizer = Any  # transformers.PreTrainedTokenizerFast, which has no types
Ids = Sequence[int]
CutPair = tuple[list[int], int]  # ids, and where the second text's segment begins
ALL_IN_FILES = "TokenizersBackend"  # the class that transformers names for such a tokenizer


class TokenizerError(ValueError):
    """A tokenizer that cannot be made or used, named by its folder or file."""


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """Load the fast tokenizer of a folder, never from a hub."""
    if _names_no_model(Path(folder)):  # what AutoTokenizer would take, without torch
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, use_fast=True)


def _names_no_model(folder: Path) -> bool:
    """Return whether a tokenizer's files say all that it is."""
    said = read_object(folder / "tokenizer_config.json")
    ours = said.get("tokenizer_class") == ALL_IN_FILES and "auto_map" not in said
    return ours and not (folder / "config.json").exists()


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


def load_split(tokens: Path, split: str, max_examples: int | None) -> StoredRows:
    """Load the rows of one split, at most `max_examples`, spread evenly to favour no part."""
    rows = read_split(tokens, split)
    if max_examples is None or max_examples >= len(rows):
        return rows
    return rows.select(evenly_spread(len(rows), max_examples))


def evenly_spread(total: int, wanted: int) -> list[int]:
    """Choose `wanted` evenly spread positions of 0 to total - 1."""
    return [(2 * i + 1) * total // (2 * wanted) for i in range(wanted)]


def visible_evidence(ends: Ids, kept: int) -> int:
    """Count the evidence words that are whole in the first `kept` ids of an input."""
    return sum(end <= kept for end in ends)
