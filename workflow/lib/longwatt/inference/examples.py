"""Examples of a cell as torch datasets: stored token ids cut to the cell's length.

An `ExampleLayout` makes inputs and targets of stored ids: texts between special tokens, or prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from torch.utils.data import Dataset

from longwatt.models.family import Example
from longwatt.progress import say
from longwatt.provenance.artefacts import read_artefact
from longwatt.tokens.prompt_templates import QUERY_PLACE, answer_room
from longwatt.tokens.prompts import Prompt
from longwatt.tokens.references import compared_id
from longwatt.tokens.special_tokens import Ids, SpecialTokens, load_split
from longwatt.tokens.stored_rows import StoredRows


class ExampleLayout(Protocol):
    """How a row's stored ids become an input, and a reference's ids a target."""

    @property
    def joined(self) -> bool:
        """True where a target follows its input in one sequence."""

    @property
    def max_target_tokens(self) -> int:
        """Most tokens of a target, special tokens included."""

    def sizes(self, rows: StoredRows) -> list[int]:
        """Return the number of tokens of every row's input."""

    def input(self, rows: StoredRows, row: int) -> tuple[list[int], int | None]:
        """Return the ids of a row's input, and where its second text begins, if any."""

    def target(self, ids: Ids) -> list[int]:
        """Return the ids of a target."""

    def target_size(self, tokens: int) -> int:
        """Return the number of ids of a target of so many tokens."""


@dataclass(frozen=True)
class Wrapped:
    """Texts between a tokenizer's special tokens."""

    special: SpecialTokens
    seq_len: int  # most tokens of an input, special tokens included
    max_target_tokens: int  # most tokens of a target, special tokens included
    joined: bool = False

    def sizes(self, rows: StoredRows) -> list[int]:
        """See `ExampleLayout.sizes`."""
        return [min(self.seq_len, n + self.special.count) for n in rows["input_tokens"]]

    def input(self, rows: StoredRows, row: int) -> tuple[list[int], int | None]:
        """See `ExampleLayout.input`."""
        if second := rows.ids("second_ids", row):
            return self.special.cut_pair(rows.ids("input_ids", row), second, self.seq_len)
        return self.special.cut(rows.ids("input_ids", row, self.seq_len), self.seq_len), None

    def target(self, ids: Ids) -> list[int]:
        """See `ExampleLayout.target`."""
        return self.special.cut(ids, self.max_target_tokens)

    def target_size(self, tokens: int) -> int:
        """See `ExampleLayout.target_size`."""
        return min(self.max_target_tokens, tokens + self.special.count)


def layout_of(settings: Mapping[str, Any], tokenizer: Any) -> Wrapped | Prompt:
    """Return the layout of a cell that answers in texts.

    Args:
        settings: of a training or of an inference.
        tokenizer: made the stored ids.

    Raises:
        longwatt.tokens.prompt_templates.PromptError: the tokenizer cannot make the prompts.
    """
    seq_len = settings["seq_len"]
    targets = int(settings.get("training", settings)["max_target_tokens"])
    if "prompt" not in settings:
        return Wrapped(SpecialTokens.of(tokenizer), seq_len, targets)
    return Prompt.of(settings["prompt"], tokenizer, seq_len, targets, answer_room(settings))


@dataclass(eq=False)
class CellExamples(Dataset[Example]):
    """Examples of one split."""

    # With the columns that `longwatt.tokens.tokenize.tokenize_dataset` writes.
    rows: StoredRows
    layout: ExampleLayout
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
        sizes = self.layout.sizes(self.rows)
        self.lengths = [sizes[row] for row, _ in self.index]
        if self.layout.joined:
            every = zip(self.lengths, self.target_tokens, strict=True)
            self.lengths = [tokens + target for tokens, target in every]

    @cached_property
    def target_tokens(self) -> list[int]:
        """Number of tokens of every target, special ones included. A label counts as one."""
        if self.labels is not None:
            return [1] * len(self.index)
        sizes = self.rows.sizes_of_parts("labels")
        return [self.layout.target_size(sizes[row][n]) for row, n in self.index]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int) -> Example:
        row, reference = self.index[position]
        ids, second_start = self.layout.input(self.rows, row)
        references = tuple(self.rows.value("references", row))
        return Example(
            id=compared_id(self.rows.value("id", row), reference, self.references),
            input_ids=ids,
            labels=self._target(row, reference, references),
            references=references,
            second_start=second_start,
        )

    def _target(self, row: int, reference: int, references: Sequence[str]) -> list[int]:
        if self.labels is not None:
            return [self.number_of[references[reference]]]
        most = self.layout.max_target_tokens
        return self.layout.target(self.rows.ids_of_part("labels", row, reference, most))


def stops_of(examples: CellExamples) -> dict[str, list[int]]:
    """Return the `stops` of `Family.predict` where inputs are prompts, else nothing."""
    layout = examples.layout
    return {"stops": layout.stops} if isinstance(layout, Prompt) else {}


def say_unasked(examples: CellExamples, split: str) -> None:
    """Report queries that a prompt has no place for, since a model never sees them."""
    layout = examples.layout
    if isinstance(layout, Prompt) and (count := layout.unasked(examples.rows)):
        of = f"{count} of {len(examples.rows)} examples of {split} have a query"
        say(f"{of}, which the prompt leaves out: it has no {QUERY_PLACE}")


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
    layout, names = Wrapped(SpecialTokens.of(tokenizer), seq_len, 1), label_names(paths["dataset"])
    return CellExamples(rows, layout, every_reference=False, labels=names)


def batches(examples: Sequence[Any] | CellExamples, size: int) -> list[list[int]]:
    """Cut the positions, in order, into batches of `size`. The last one may be smaller."""
    return [list(range(i, min(i + size, len(examples)))) for i in range(0, len(examples), size)]
