"""A cell's examples: stored token ids cut to its length, as torch datasets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from torch.utils.data import Dataset

from longwatt.models.family import Example
from longwatt.references import compared_id
from longwatt.tokenization import SpecialTokens


class Examples(Dataset[Example]):
    """Examples of one split.

    Args:
        rows: a `datasets.Dataset` with the columns that `longwatt.tokenization.tokenize_dataset` writes.
        special: the tokenizer's special tokens.
        seq_len: most tokens of an input, special tokens included.
        max_target_tokens: most tokens of a target, special tokens included.
        every_reference: one example per reference (training) instead of one per record.
        references: "each" numbers the examples' ids by reference; see `longwatt.references`.
    """

    def __init__(
        self,
        rows: Any,
        special: SpecialTokens,
        seq_len: int,
        max_target_tokens: int,
        every_reference: bool,
        references: str = "best",
    ) -> None:
        self.references = references
        self.rows = rows
        self.special = special
        self.seq_len = seq_len
        self.max_target_tokens = max_target_tokens
        counts = [len(labels) if every_reference else 1 for labels in rows["references"]]
        self.index = [(row, n) for row, count in enumerate(counts) for n in range(count)]
        room = [min(seq_len, tokens + special.count) for tokens in rows["input_tokens"]]
        self.lengths = [room[row] for row, _ in self.index]

    @cached_property
    def target_tokens(self) -> list[int]:
        """Tokens of every example's target, special ones included."""
        most, special = self.max_target_tokens, self.special.count
        counts = [[min(most, len(ids) + special) for ids in labels] for labels in self.rows["labels"]]
        return [counts[row][reference] for row, reference in self.index]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int) -> Example:
        row_number, reference = self.index[position]
        row = self.rows[row_number]
        return Example(
            id=compared_id(row["id"], reference, self.references),
            input_ids=self.special.cut(row["input_ids"], self.seq_len),
            labels=self.special.cut(row["labels"][reference], self.max_target_tokens),
            references=tuple(row["references"]),
        )


def batches(examples: Sequence[Any] | Examples, size: int) -> list[list[int]]:
    """Positions in order, `size` at a time; the last batch may be smaller."""
    return [list(range(i, min(i + size, len(examples)))) for i in range(0, len(examples), size)]
