"""Examples of a cell as torch datasets: stored token ids cut to the cell's length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from longwatt.models.family import Example
from longwatt.provenance.artefacts import read_artefact
from longwatt.tokens.references import compared_id
from longwatt.tokens.special_tokens import SpecialTokens, load_split
from longwatt.tokens.stored_rows import StoredRows


@dataclass(eq=False)
class CellExamples(Dataset[Example]):
    """Examples of one split."""

    # With the columns that `longwatt.tokens.tokenize.tokenize_dataset` writes.
    rows: StoredRows
    special: SpecialTokens
    seq_len: int  # most tokens of an input, special tokens included
    max_target_tokens: int  # most tokens of a target, special tokens included
    every_reference: bool  # one example per reference (training) instead of one per record
    # "each" numbers the examples' ids by reference; see `longwatt.tokens.references`.
    references: str = "best"
    # Names of the classes in order; an example's target is the position of its own. None where the
    # task is no classification.
    labels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        self.number_of = {name: number for number, name in enumerate(self.labels or ())}
        counts = self.rows.sizes("references") if self.every_reference else [1] * len(self.rows)
        self.index = [(row, n) for row, count in enumerate(counts) for n in range(count)]
        extra, most = self.special.count, self.seq_len
        room = [min(most, tokens + extra) for tokens in self.rows["input_tokens"]]
        self.lengths = [room[row] for row, _ in self.index]

    @cached_property
    def target_tokens(self) -> list[int]:
        """Number of tokens of every target, special ones included. A label counts as one."""
        if self.labels is not None:
            return [1] * len(self.index)
        most, special = self.max_target_tokens, self.special.count
        sizes = self.rows.sizes_of_parts("labels")
        return [min(most, sizes[row][n] + special) for row, n in self.index]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int) -> Example:
        row, reference = self.index[position]
        ids, second_start = self._input(row)
        references = tuple(self.rows.value("references", row))
        return Example(
            id=compared_id(self.rows.value("id", row), reference, self.references),
            input_ids=ids,
            labels=self._target(row, reference, references),
            references=references,
            second_start=second_start,
        )

    def _input(self, row: int) -> tuple[list[int], int | None]:
        if second := self.rows.ids("second_ids", row):
            return self.special.cut_pair(self.rows.ids("input_ids", row), second, self.seq_len)
        return self.special.cut(self.rows.ids("input_ids", row, self.seq_len), self.seq_len), None

    def _target(self, row: int, reference: int, references: Sequence[str]) -> list[int]:
        if self.labels is not None:
            return [self.number_of[references[reference]]]
        most = self.max_target_tokens
        return self.special.cut(self.rows.ids_of_part("labels", row, reference, most), most)


def label_names(dataset: Path | str) -> list[str]:
    """Read the labels of a classification dataset, in order, from its dataset.json."""
    return list(read_artefact(Path(dataset), shared=True)["labels"])


def classified(
    paths: Mapping[str, str], tokenizer: Any, split: str, max_examples: int | None, seq_len: int
) -> CellExamples:
    """Load the examples of a split of a classification dataset, with their labels.

    Args:
        paths: tokens, dataset.
        max_examples: number of examples, evenly spread; None for all.
        seq_len: most tokens of an input.
    """
    rows = load_split(Path(paths["tokens"]), split, max_examples)
    special, names = SpecialTokens.of(tokenizer), label_names(paths["dataset"])
    return CellExamples(rows, special, seq_len, 1, every_reference=False, labels=names)


def batches(examples: Sequence[Any] | CellExamples, size: int) -> list[list[int]]:
    """Cut the positions, in order, into batches of `size`. The last one may be smaller."""
    return [list(range(i, min(i + size, len(examples)))) for i in range(0, len(examples), size)]
