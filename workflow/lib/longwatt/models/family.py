"""The interface between the engine and a model family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Example:
    """One example as a family sees it: ids already cut, special tokens included."""

    id: str
    input_ids: list[int]
    labels: list[int]
    references: tuple[str, ...]


class Family(Protocol):
    """All that is special about a kind of model.

    The engine knows nothing of encoders, decoders or `generate`; it moves batches that `collate` made into
    `loss` and `predict`.
    """

    def build(self, model: Mapping[str, Any], tokenizer: Any, checkpoint: Path | None, seq_len: int) -> nn.Module:
        """A model from a study's model entry: random weights, or those of a checkpoint folder.

        Raises:
            ModelError: the entry cannot hold inputs of `seq_len` tokens.
        """

    def collate(self, examples: Sequence[Example], pad_to: int | None, targets: int | None) -> Batch:
        """Pad examples to the longest or to fixed lengths, and add whatever masks the model needs."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy over target tokens (scalar, with gradient)."""

    def predict(self, model: nn.Module, batch: Batch, protocol: str, generation: Mapping[str, Any]) -> list[list[int]]:
        """Token ids per example, special tokens and padding included, by the cell's protocol."""
