"""Predict examples batch by batch, in validation as in inference."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

from longwatt.inference.examples import CellExamples
from longwatt.jobs.torch_device import synchronize
from longwatt.models.family import Answer, Batch, Example, Family
from longwatt.tasks import CLASSIFICATION


@dataclass(frozen=True)
class BatchResult:
    """One batch of predictions."""

    ids: list[str]  # of the examples
    answers: list[Answer]
    input_tokens: list[int]  # real input tokens per example (padding excluded)
    # Window in which the batch was collated, transferred and predicted, on the energy log's clock
    # (CLOCK_MONOTONIC) and with the device synchronised; decoding to text is excluded.
    start_ns: int
    end_ns: int


@dataclass(eq=False)
class Predictor:
    """Predict batches of examples by a cell's protocol."""

    family: Family
    # On its device. Of this type, so that the library is imported with this module: see
    # `longwatt.jobs.start`.
    model: PreTrainedModel
    tokenizer: Any
    _: KW_ONLY
    # Options of the prediction, as `longwatt.models.family.Family.predict` takes them.
    how: Mapping[str, Any]
    precision: str  # fp32, tf32, bf16 or fp16
    pad_to: int | None  # fixed input length; None pads to the longest input of a batch
    # The same for gold targets, which only teacher-forced predictions see.
    target_pad_to: int | None = None
    device: torch.device = field(init=False)

    def __post_init__(self) -> None:
        self.device = next(self.model.parameters()).device

    def predict(
        self, examples: CellExamples | Sequence[Example], groups: Sequence[Sequence[int]]
    ) -> Iterator[BatchResult]:
        """Yield the results of each group of positions in `examples`."""
        for group in groups:
            yield self._predict_batch([examples[position] for position in group])

    def loss(self, examples: CellExamples, group: Sequence[int]) -> float:
        """Compute the loss of a group of positions in `examples`, in the predictions' precision."""
        batch = self._collated([examples[position] for position in group])
        with torch.no_grad(), autocast(self.device, self.precision):
            return self.family.loss(self.model, batch).item()

    def _predict_batch(self, chosen: Sequence[Any]) -> BatchResult:
        synchronize(self.device)
        start_ns = time.monotonic_ns()
        batch = self._collated(chosen)
        with torch.no_grad(), autocast(self.device, self.precision):
            predicted = self.family.predict(self.model, batch, self.how)
        synchronize(self.device)
        end_ns = time.monotonic_ns()
        return BatchResult(
            ids=[example.id for example in chosen],
            answers=self.family.answers(predicted, self.tokenizer),
            input_tokens=[len(example.input_ids) for example in chosen],
            start_ns=start_ns,
            end_ns=end_ns,
        )

    def _collated(self, chosen: Sequence[Any]) -> Batch:
        batch = self.family.collate(chosen, self.pad_to, self.target_pad_to)
        return {name: tensor.to(self.device) for name, tensor in batch.items()}


def prediction_options(
    settings: Mapping[str, Any], validation: Mapping[str, Any]
) -> dict[str, Any]:
    """Return how validations predict, for `Family.predict`.

    Args:
        settings: of a training or of its probe: `task`, `protocol` and `generation` count.
        validation: its settings of validation.
    """
    if settings.get("task") == CLASSIFICATION:  # temperatures are fitted only once training is over
        return {**{key: validation[key] for key in ("exit", "batch_size")}, "uncalibrated": True}
    return {key: settings[key] for key in ("protocol", "generation")}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return mixed precision for bf16 and fp16, and a null context otherwise."""
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
    kind = kinds.get(precision)
    return torch.autocast(device.type, dtype=kind) if kind else nullcontext()
