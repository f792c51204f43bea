"""The interface between the engine and a model family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

Batch = dict[str, "Tensor"]


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

    def check(self, config: Mapping[str, Any], given: Mapping[str, Any], seq_len: int, target_tokens: int) -> None:
        """Refuse lengths that a model cannot hold; called at parse time too, so without torch.

        Args:
            config: what is known of the model's configuration.
            given: the part of it that the study states itself.
            seq_len: tokens of an input.
            target_tokens: most tokens of a target or a prediction.

        Raises:
            ModelError: names the key, the limit and what to do.
        """

    def regime(self, config: Mapping[str, Any], seq_len: int) -> str | None:
        """The name of the kind of model that a configuration is at this length; None where there is only one kind.

        Two regimes of one configuration are two models: figures never join them by a line.
        """

    def notes(self, config: Mapping[str, Any], seq_len: int) -> list[str]:
        """What a reader of this cell's results should know of its model; kept in training.json."""

    def build(
        self, model: Mapping[str, Any], tokenizer: Any, checkpoint: Path | None, seq_len: int, target_tokens: int
    ) -> nn.Module:
        """A model from a study's model entry: random weights, or those of a checkpoint folder.

        Raises:
            ModelError: the entry cannot be built, or cannot hold these lengths.
        """

    def collate(self, examples: Sequence[Example], pad_to: int | None, targets: int | None) -> Batch:
        """Pad examples to the longest or to fixed lengths, and add whatever masks the model needs."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy over target tokens (scalar, with gradient)."""

    def predict(self, model: nn.Module, batch: Batch, protocol: str, generation: Mapping[str, Any]) -> list[list[int]]:
        """Token ids per example, special tokens and padding included, by the cell's protocol."""
