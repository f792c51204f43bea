"""Generate texts from the prompts of a batch, left-padded, with a cache of keys and values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.generation.logits_process import LogitsProcessor, NoRepeatNGramLogitsProcessor

from longwatt.models.family import IGNORED

NO_REPEAT = "no_repeat_ngram_size"


def prompts(batch: Mapping[str, Tensor], pad: int) -> dict[str, Tensor]:
    """Take the prompts out of a batch: what stands before each row's first label.

    They end in the last column, so that all rows go on together, and are padded on the left.

    Returns:
        input_ids and attention_mask, (rows, the longest prompt).
    """
    ids, labels = batch["input_ids"], batch["labels"]
    lengths = (labels != IGNORED).int().argmax(1)
    width = int(lengths.max())
    places = torch.arange(width, device=ids.device) - (width - lengths)[:, None]
    real = places >= 0
    taken = ids.gather(1, places.clamp(min=0))
    return {"input_ids": taken.masked_fill(~real, pad), "attention_mask": real.long()}


def generate(
    model: Any, given: Mapping[str, Tensor], options: Mapping[str, Any], ends: Collection[int]
) -> list[list[int]]:
    """Generate answers without sampling, each up to its own end.

    Args:
        model: of transformers, in evaluation mode.
        given: what `prompts` returns.
        options: arguments of `generate`.
        ends: tokens that end an answer.

    Returns:
        Token ids of each answer, the token that ended it included.
    """
    width, chosen = given["input_ids"].shape[1], dict(options)
    if size := chosen.pop(NO_REPEAT, 0):
        chosen["logits_processor"] = [_NoRepeatInAnswers(size, width)]
    output = model.generate(**given, **chosen, do_sample=False, use_cache=True)
    return [_cut(row, ends) for row in output[:, width:].tolist()]


def _cut(row: list[int], ends: Collection[int]) -> list[int]:
    """Drop the padding after an answer's end."""
    last = next((place for place, token in enumerate(row) if token in ends), len(row) - 1)
    return row[: last + 1]


class _NoRepeatInAnswers(LogitsProcessor):  # type: ignore[misc]
    """Forbid sequences that an answer has already; those of its prompt it may repeat."""

    def __init__(self, size: int, prompt: int) -> None:
        self._own, self._prompt = NoRepeatNGramLogitsProcessor(size), prompt

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """See transformers: scores (rows, vocabulary) for the tokens so far (rows, length)."""
        answers = input_ids[:, self._prompt :]
        found: Tensor = self._own(answers, scores) if answers.shape[1] else scores
        return found
