"""The interface between the engine and a model family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

Batch = dict[str, "Tensor"]


@dataclass(frozen=True)
class Example:
    """One example as a family sees it: ids already cut, special tokens included.

    Attributes:
        id: of the example.
        input_ids: of its text, or of both its texts.
        labels: token ids of the target; in classification the position of the label among the dataset's.
        references: acceptable outputs; in classification the label.
        second_start: the position in `input_ids` where the second text's segment begins; None for one text.
    """

    id: str
    input_ids: list[int]
    labels: list[int]
    references: tuple[str, ...]
    second_start: int | None = None


@dataclass(frozen=True)
class Answer:
    """What a model answers to one example.

    Attributes:
        text: decoded and stripped, or the name of a label.
        output_tokens: tokens produced, padding excluded; 1 for a label.
        facts: what else there is to say of it, as JSON; kept in its row of predictions.jsonl.
    """

    text: str
    output_tokens: int
    facts: Mapping[str, Any] = field(default_factory=dict)


class Family(Protocol):
    """All that is special about a kind of model.

    The engine knows nothing of encoders, decoders or `generate`; it moves batches that `collate` made into
    `loss` and `predict`.

    Attributes:
        task: TEXT or CLASSIFICATION.
    """

    task: ClassVar[str]

    def check(
        self,
        config: Mapping[str, Any],
        given: Mapping[str, Any],
        seq_len: int,
        target_tokens: int,
        exits: Mapping[str, Any] | None = None,
    ) -> None:
        """Refuse lengths that a model cannot hold; called at parse time too, so without torch.

        Args:
            config: what is known of the model's configuration.
            given: the part of it that the study states itself.
            seq_len: tokens of an input.
            target_tokens: most tokens of a target or a prediction; 1 where that is a label.
            exits: of a family with exits, where they are; None where the study says nothing of them.

        Raises:
            ModelError: names the key, the limit and what to do.
        """

    def regime(self, config: Mapping[str, Any], seq_len: int) -> str | None:
        """The name of the kind of model that a configuration is at this length; None where there is only one kind.

        Two regimes of one configuration are two models: figures never join them by a line.
        """

    def notes(self, config: Mapping[str, Any], seq_len: int) -> list[str]:
        """What a reader of this cell's results should know of its model; kept in training.json."""

    def facts(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What else of a trained model is kept in training.json, by what its configuration says."""

    def build(
        self,
        model: Mapping[str, Any],
        tokenizer: Any,
        checkpoint: Path | None,
        seq_len: int,
        target_tokens: int,
        labels: Sequence[str] = (),
    ) -> nn.Module:
        """A model from a study's model entry: random weights, or those of a checkpoint folder.

        Args:
            model: a study's entry; empty for a trained model, which says all of it itself.
            tokenizer: of the model.
            checkpoint: the folder of a pretrained or of a trained model; None for random weights.
            seq_len: tokens of an input.
            target_tokens: most tokens of a target or a prediction.
            labels: their names in order, where a new model is to tell them apart.

        Raises:
            ModelError: the entry cannot be built, or cannot hold these lengths.
        """

    def collate(
        self, examples: Sequence[Example], pad_to: int | None, targets: int | None
    ) -> Batch:
        """Pad examples to the longest or to fixed lengths, and add whatever masks the model needs."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy over target tokens, or over examples (scalar, with gradient)."""

    def predict(self, model: nn.Module, batch: Batch, how: Mapping[str, Any]) -> Any:
        """Predictions for a batch, still to be read by `answers`; this is what is timed.

        Args:
            model: in evaluation mode.
            batch: as `collate` made it, on the model's device.
            how: of a text the `protocol` of the cell and the settings of `generation`; of a label the rule by which to
                `exit` (None: at the last exit) and the rows of a forward pass (`batch_size`).
        """

    def answers(self, predicted: Any, tokenizer: Any) -> list[Answer]:
        """What `predict` gave, one answer for each row of its batch."""


class Classifier(Family, Protocol):
    """A family that tells labels apart, at one exit or several."""

    def exit_logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """What every classifier says of every row: (exits, batch, classes), float32, before any temperature."""

    def score(
        self, metric: str, predictions: Mapping[str, str], labels: Mapping[str, str]
    ) -> float:
        """The headline score of predicted labels by id.

        It is here, so that what scores labels is no part of the code that other families are trained by.
        """
