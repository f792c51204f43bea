"""Predictions of a model for examples, batch by batch; shared by validation and inference."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from longwatt.devices import synchronize
from longwatt.examples import Examples
from longwatt.models.family import Answer, Batch, Family


@dataclass(frozen=True)
class BatchResult:
    """One batch of predictions.

    Attributes:
        ids: example ids.
        answers: to each of them.
        input_tokens: real input tokens per example (padding excluded).
        start_ns, end_ns: when it was collated, transferred and predicted, on the energy log's clock
            (CLOCK_MONOTONIC) and with the device synchronised; decoding to text excluded.
    """

    ids: list[str]
    answers: list[Answer]
    input_tokens: list[int]
    start_ns: int
    end_ns: int


class Predictor:
    """Predicts batches of examples by a cell's protocol.

    Args:
        family: the model's family.
        model: the model, on its device.
        tokenizer: for decoding.
        how: to predict, as `longwatt.models.family.Family.predict` takes it.
        precision: fp32, tf32, bf16 or fp16.
        pad_to: fixed input length, None to pad to a batch's longest.
        target_pad_to: fixed length of gold targets, likewise; only teacher-forced predictions see them.
    """

    def __init__(
        self,
        family: Family,
        model: nn.Module,
        tokenizer: Any,
        *,
        how: Mapping[str, Any],
        precision: str,
        pad_to: int | None,
        target_pad_to: int | None = None,
    ) -> None:
        self.family = family
        self.model = model
        self.tokenizer = tokenizer
        self.how = how
        self.precision = precision
        self.pad_to = pad_to
        self.target_pad_to = target_pad_to
        self.device = next(model.parameters()).device

    def predict(self, examples: Examples, groups: Sequence[Sequence[int]]) -> Iterator[BatchResult]:
        """Yield the results of each group of positions in `examples`."""
        for group in groups:
            yield self._predict_batch([examples[position] for position in group])

    def loss(self, examples: Examples, group: Sequence[int]) -> float:
        """Compute the loss of a group of positions in `examples`, in the precision of predictions."""
        chosen = [examples[position] for position in group]
        batch = self._to_device(self.family.collate(chosen, self.pad_to, self.target_pad_to))
        with torch.no_grad(), autocast(self.device, self.precision):
            return self.family.loss(self.model, batch).item()

    def _predict_batch(self, chosen: Sequence[Any]) -> BatchResult:
        synchronize(self.device)
        start_ns = time.monotonic_ns()
        batch = self._to_device(self.family.collate(chosen, self.pad_to, self.target_pad_to))
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

    def _to_device(self, batch: Batch) -> Batch:
        return {name: tensor.to(self.device) for name, tensor in batch.items()}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision for bf16 and fp16; a null context otherwise."""
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in kinds:
        return nullcontext()
    return torch.autocast(device.type, dtype=kinds[precision])
