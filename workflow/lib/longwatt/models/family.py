"""The interface between the engine and a model family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from longwatt.models.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Batch = dict[str, "Tensor"]
Config = Mapping[str, Any]  # a model's configuration, or a part of it
Exits = Mapping[str, Any] | None  # a model entry's `exits`; None where it says nothing of them
Labels = Mapping[str, str]  # by example's id
# Paths of attention: longwatt's own exact code, and that of transformers.
FAST, STOCK = "fast", "stock"
# Those that transformers itself offers; `stock` takes the one that it would.
SDPA, EAGER, FLASH, FLEX = "sdpa", "eager", "flash", "flex"
BOTH = f"{FAST} / {STOCK}"  # of a training or an inference whose batches needed both
IGNORED = -100  # the label that no loss counts


@dataclass(frozen=True)
class Example:
    """One example as a family sees it: ids already cut, special tokens included."""

    id: str  # of the example
    input_ids: list[int]  # of its text, or of both its texts
    # Token ids of the target; in classification the label's position in the dataset's.
    labels: list[int]
    references: tuple[str, ...]  # acceptable outputs; in classification the label
    # Position in `input_ids` where the second text begins; None for one text.
    second_start: int | None = None


@dataclass(frozen=True)
class Answer:
    """A model's answer to one example."""

    text: str  # decoded and stripped, or the name of a label
    output_tokens: int  # tokens produced, padding excluded; 1 for a label
    # More about the answer, as JSON; kept in its row of predictions.jsonl.
    facts: Mapping[str, Any] = field(default_factory=dict)


class Family(Protocol):
    """All that is special about a kind of model.

    The engine knows nothing of encoders, decoders or `generate`; it moves batches that `collate`
    made into `loss` and `predict`.

    Attributes:
        task: TEXT or CLASSIFICATION.
        prompted: whether inputs are prompts: a template with the document and its query in it.
        packs: whether several examples can share a row, none of which sees another (`pack`).
        trained_whole: parts of a model that get no adapters, since they begin untrained.
        attention_paths: the paths of attention to choose from, the default first.
        attention: the path in use, known once a model is built.
        attention_reason: a sentence on why the path in use is not the chosen one, else None.
    """

    task: ClassVar[str]
    prompted: ClassVar[bool] = False
    packs: ClassVar[bool] = False
    trained_whole: ClassVar[tuple[str, ...]] = ()
    attention_paths: ClassVar[tuple[str, ...]] = (STOCK,)
    attention: str = STOCK
    attention_reason: str | None = None

    def check(
        self, config: Config, given: Config, seq_len: int, target_tokens: int, exits: Exits = None
    ) -> None:
        """Refuse lengths that a model cannot hold, without torch (also at parse time).

        Args:
            config: the known part of the model's configuration.
            given: the part of it that the study states itself.
            seq_len: tokens of an input.
            target_tokens: most tokens of a target or a prediction; 1 where that is a label.
            exits: the layers with exits, for a family that has them.

        Raises:
            ModelError: names the key, the limit and what to do.
        """

    def regime(self, config: Config, seq_len: int) -> str | None:
        """Name the regime of a configuration at this length, if it has several.

        Two regimes of one configuration are two models: figures never join them by a line.
        """
        return None

    def notes(self, config: Config, seq_len: int) -> list[str]:
        """List remarks for readers of the results, kept in training.json."""
        return [self.attention_reason] if self.attention_reason else []

    def facts(self, config: Config) -> dict[str, Any]:
        """Return more facts about a trained model, for training.json."""
        return {}

    def build(
        self,
        model: Config,
        tokenizer: Any,
        checkpoint: Path | None,
        seq_len: int,
        target_tokens: int,
        labels: Sequence[str] = (),
    ) -> nn.Module:
        """Build a model from a study's model entry.

        Args:
            model: a study's entry; of a trained model, which holds the rest itself, the path of
                `attention` alone, or nothing for the family's default. With `adapters`, the folder
                of trained ones, their configuration is the model's.
            checkpoint: folder of a pretrained or a trained model, or of the base of adapters; None
                for random weights.
            seq_len: tokens of an input.
            target_tokens: most tokens of a target or a prediction.
            labels: names in order, for a new model that is to tell them apart.

        Raises:
            ModelError: the entry cannot be built, or cannot hold these lengths.
        """

    def place(self, model: nn.Module, device: torch.device, precision: str) -> nn.Module:
        """Move a built model to its device, which may need another path of attention.

        Args:
            precision: fp32, tf32, bf16 or fp16.
        """
        return model.to(device)

    def collate(self, chosen: Sequence[Example], pad_to: int | None, targets: int | None) -> Batch:
        """Pad examples to the longest or to fixed lengths, and add the model's masks."""

    def pack(self, chosen: Sequence[Example]) -> Batch:
        """Join examples to one row without padding, in families that pack.

        Returns:
            input_ids, position_ids (from 0 in every example) and labels, all (1, their tokens).
        """
        raise NotImplementedError(f"{type(self).__name__} packs no examples")

    def check_packing(self, model: nn.Module, precision: str) -> None:
        """Refuse a placed model that does not keep packed examples apart, by a ModelError."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross-entropy over target tokens or examples (scalar, with gradient)."""

    def predict(self, model: nn.Module, batch: Batch, how: Mapping[str, Any]) -> Any:
        """Predict a batch for `answers` to read, which alone is timed.

        Args:
            model, batch: the model in evaluation mode, and what `collate` made, on its device.
            how: for texts the cell's `protocol` and the settings of `generation`; where inputs are
                prompts, also the ids that end an answer (`stops`). For labels the rule by which to
                `exit` (None: at the last exit) and the rows of a forward pass (`batch_size`).
        """

    def answers(self, predicted: Any, tokenizer: Any) -> list[Answer]:
        """Read the result of `predict` as one answer for each row of its batch."""


def is_to_adapt(model: Config) -> bool:
    """Check whether a model's entry asks for new adapters or names trained ones."""
    return bool(model.get("lora") or model.get("adapters"))


class Classifier(Family, Protocol):
    """A family that tells labels apart, at one exit or several."""

    def exit_logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits of all classifiers: (exits, batch, classes), float32, uncalibrated."""

    def score(self, metric: str, predictions: Labels, labels: Labels) -> float:
        """Return labels' headline score, by code that no other family's training depends on."""


def attention_path(family: Family, model: Config) -> str:
    """Return the path of attention that a model's entry chooses, else its family's default.

    Raises:
        ModelError: the family does not offer it.
    """
    offered = family.attention_paths
    chosen = str(model.get("attention", offered[0]))
    if chosen not in offered:
        name = type(family).__module__.rpartition(".")[2]
        raise ModelError(
            f"{chosen!r} is asked for, but the family {name} offers {' or '.join(offered)}; "
            "choose that, or leave the key out"
        )
    return chosen
